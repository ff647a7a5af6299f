// 订单服务：发消息、发起审批、接收 Webhook。只用 Node 自带的模块，需要 Node 18 以上。
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const { GATEWAY = "http://127.0.0.1:8610", KEY, SECRET, PORT = "8000" } = process.env;
const secret = Buffer.from(SECRET.replace(/^whsec_/, ""), "base64");
const seen = new Map(); // webhook-id → 通知。同一通知可能到达多次；生产环境应存入数据库，保留一周

// 幂等键相同的请求只生效一次，所以超时、断网之后可以放心重试。
async function post(path, idempotencyKey, body) {
  const answer = await fetch(GATEWAY + path, {
    method: "POST",
    headers: {
      Authorization: `Bearer ${KEY}`,
      "Content-Type": "application/json",
      "Accept-Language": "zh",
      "Idempotency-Key": idempotencyKey,
    },
    body: JSON.stringify(body),
  });
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.detail ?? document.title);
  return document;
}

function notifyPaid(order, user) {
  const message = { msgtype: "text", text: { content: `订单 ${order} 已付款（Node）` } };
  // wait=30：最多等 30 秒，任务结束就返回；没有结束也已提交，结果由 Webhook 通知
  return post("/v1/messages?wait=30", `order-${order}-paid`, { to: { users: [user] }, message });
}

function requestLeave(number, user, days) {
  return post("/v1/approvals?wait=30", `leave-${number}`, {
    process_code: "PROC-LEAVE",
    originator: user,
    form: { 事由: "出差", 天数: days },
  });
}

function verified(headers, body) {
  const timestamp = headers["webhook-timestamp"] ?? "";
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= 300)) return false;
  const hmac = createHmac("sha256", secret);
  hmac.update(`${headers["webhook-id"]}.${timestamp}.`).update(body);
  const expected = Buffer.from(`v1,${hmac.digest("base64")}`);
  // 轮换密钥期间有两个签名，符合其一即可
  return (headers["webhook-signature"] ?? "").split(" ").some((signature) => {
    const bytes = Buffer.from(signature);
    return bytes.length === expected.length && timingSafeEqual(bytes, expected);
  });
}

async function handle(request) {
  const url = new URL(request.url, "http://localhost");
  const user = url.searchParams.get("user");
  const [, collection, number, action] = url.pathname.split("/");
  const route = `${request.method} /${[collection, number && ":number", action].filter(Boolean).join("/")}`;
  switch (route) {
    case "POST /orders/:number/paid":
      return [200, await notifyPaid(number, user)];
    case "POST /leaves/:number":
      return [200, await requestLeave(number, user, url.searchParams.get("days"))];
    case "GET /notices":
      return [200, [...seen.values()]];
    case "POST /dingrelay": {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      const body = Buffer.concat(chunks); // 签名针对原始字节，先验签再解析
      if (!verified(request.headers, body)) return [401];
      seen.set(request.headers["webhook-id"], JSON.parse(body));
      return [204];
    }
    default:
      return [404];
  }
}

createServer((request, response) => {
  handle(request)
    .catch((error) => [502, { detail: error.message }])
    .then(([status, document]) => {
      response.writeHead(status, { "Content-Type": "application/json; charset=utf-8" });
      response.end(document && JSON.stringify(document));
    });
}).listen(Number(PORT), "127.0.0.1", () => console.log(`http://127.0.0.1:${PORT}`));
