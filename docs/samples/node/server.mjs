// 订单服务：发消息、发起审批、接收 Webhook。只用 Node 自带的模块，需要 Node 18 以上。
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const { GATEWAY = "http://127.0.0.1:8610", KEY, SECRET, PORT = "8000" } = process.env;
if (!SECRET) {
  console.error("请设置环境变量 SECRET：登记接收地址时得到的 whsec_…");
  process.exit(1);
}
const secret = Buffer.from(SECRET.replace(/^whsec_/, ""), "base64");
const seen = new Map(); // webhook-id → 通知。同一通知可能到达多次；生产环境应存入数据库，保留一周
const FAILED = ["dead", "unknown", "cancelled", "expired"];
const ATTEMPTS = 5;

// 幂等键相同的请求只生效一次，所以超时、断网之后可以放心重试。带 Retry-After 的应答（同样的请求还在处理、
// 超出速率、暂时不可用）稍等后重发。
async function post(path, idempotencyKey, body) {
  const request = {
    method: "POST",
    headers: {
      Authorization: `Bearer ${KEY}`,
      "Content-Type": "application/json",
      "Accept-Language": "zh",
      "Idempotency-Key": idempotencyKey,
    },
    body: JSON.stringify(body),
  };
  let answer = await send(path, request);
  for (let attempt = 1; attempt < ATTEMPTS && answer.headers.has("retry-after"); attempt++) {
    await sleep(Number(answer.headers.get("retry-after")) * 1000);
    answer = await send(path, request);
  }
  const document = await answer.json();
  if (!answer.ok) throw new Error(document.detail ?? document.title);
  // 任务已接收，但没有成功：原因在 error 中
  if (FAILED.includes(document.state)) throw new Error(`任务状态为 ${document.state}：${document.error?.message}`);
  return document;
}

function send(path, request) {
  return fetch(GATEWAY + path, { ...request, signal: AbortSignal.timeout(60_000) }).catch((error) => {
    throw new Error(`连不上网关 ${GATEWAY}：${error.cause?.code ?? error.message}`);
  });
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

class BadRequest extends Error {}

async function handle(request) {
  const url = new URL(request.url, "http://localhost");
  const parameter = (name) => {
    const value = url.searchParams.get(name);
    if (!value) throw new BadRequest(`网址中缺少参数 ${name}`);
    return value;
  };
  const [, collection, number, action] = url.pathname.split("/");
  const route = `${request.method} /${[collection, number && ":number", action].filter(Boolean).join("/")}`;
  switch (route) {
    case "POST /orders/:number/paid":
      return [200, await notifyPaid(number, parameter("user"))];
    case "POST /leaves/:number":
      return [200, await requestLeave(number, parameter("user"), parameter("days"))];
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
    .catch((error) => [error instanceof BadRequest ? 400 : 502, { detail: error.message }])
    .then(([status, document]) => {
      response.writeHead(status, { "Content-Type": "application/json; charset=utf-8" });
      response.end(document && JSON.stringify(document));
    });
}).listen(Number(PORT), "127.0.0.1", () => console.log(`http://127.0.0.1:${PORT}`));
