import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.ConnectException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URLDecoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpTimeoutException;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** 订单服务：发消息、发起审批、接收 Webhook。需要 Java 17；JSON 用 Jackson，其余都是 JDK 自带的。 */
public class Orders {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final HttpClient CLIENT =
        HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(5)).build();
    private static final String GATEWAY = env("GATEWAY", "http://127.0.0.1:8610");
    private static final byte[] SECRET =
        Base64.getDecoder().decode(env("SECRET", "").replaceFirst("^whsec_", ""));
    private static final Set<String> FAILED = Set.of("dead", "unknown", "cancelled", "expired");
    private static final int ATTEMPTS = 5;

    /** webhook-id → 通知。同一通知可能到达多次；生产环境应存入数据库，保留一周。 */
    private static final Map<String, JsonNode> NOTICES = new ConcurrentHashMap<>();

    private record Answer(int status, Object document) {}

    private interface Route {
        Answer answer(HttpExchange exchange) throws Exception;
    }

    /**
     * 幂等键相同的请求只生效一次，所以超时、断网之后可以放心重试。带 Retry-After 的应答（同样的请求还在处理、
     * 超出速率、暂时不可用）稍等后重发。
     */
    private static JsonNode post(String path, String idempotencyKey, Object body)
            throws IOException, InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(URI.create(GATEWAY + path))
            .timeout(Duration.ofMinutes(1))
            .header("Authorization", "Bearer " + env("KEY", ""))
            .header("Content-Type", "application/json")
            .header("Accept-Language", "zh")
            .header("Idempotency-Key", idempotencyKey)
            .POST(HttpRequest.BodyPublishers.ofByteArray(JSON.writeValueAsBytes(body)))
            .build();
        HttpResponse<String> answer = CLIENT.send(request, HttpResponse.BodyHandlers.ofString());
        for (int attempt = 1; attempt < ATTEMPTS && answer.headers().firstValue("Retry-After").isPresent(); attempt++) {
            Thread.sleep(Duration.ofSeconds(answer.headers().firstValueAsLong("Retry-After").getAsLong()).toMillis());
            answer = CLIENT.send(request, HttpResponse.BodyHandlers.ofString());
        }
        JsonNode document = JSON.readTree(answer.body());
        if (answer.statusCode() >= 300) throw new IOException(document.path("detail").asText());
        // 任务已接收，但没有成功：原因在 error 中
        String state = document.path("state").asText();
        if (FAILED.contains(state)) {
            throw new IOException("任务状态为 " + state + "：" + document.path("error").path("message").asText());
        }
        return document;
    }

    static JsonNode notifyPaid(String order, String user) throws IOException, InterruptedException {
        // wait=30：最多等 30 秒，任务结束就返回；没有结束也已提交，结果由 Webhook 通知
        return post("/v1/messages?wait=30", "order-" + order + "-paid", Map.of(
            "to", Map.of("users", List.of(user)),
            "message", Map.of("msgtype", "text", "text", Map.of("content", "订单 " + order + " 已付款（Java）"))));
    }

    static JsonNode requestLeave(String number, String user, String days)
            throws IOException, InterruptedException {
        return post("/v1/approvals?wait=30", "leave-" + number, Map.of(
            "process_code", "PROC-LEAVE",
            "originator", user,
            "form", Map.of("事由", "出差", "天数", days)));
    }

    static boolean verified(String id, String timestamp, String signatures, byte[] body)
            throws GeneralSecurityException {
        if (id == null || timestamp == null || signatures == null || !timestamp.matches("\\d{1,12}")) return false;
        if (Math.abs(Instant.now().getEpochSecond() - Long.parseLong(timestamp)) > 300) return false;
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(SECRET, "HmacSHA256"));
        mac.update((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
        byte[] expected = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes();
        // 轮换密钥期间有两个签名，符合其一即可
        return Arrays.stream(signatures.split(" "))
            .anyMatch(signature -> MessageDigest.isEqual(expected, signature.getBytes()));
    }

    private static Answer receive(HttpExchange exchange) throws IOException, GeneralSecurityException {
        byte[] body = exchange.getRequestBody().readAllBytes(); // 签名针对原始字节，先验签再解析
        var headers = exchange.getRequestHeaders();
        String id = headers.getFirst("webhook-id");
        if (!verified(id, headers.getFirst("webhook-timestamp"), headers.getFirst("webhook-signature"), body)) {
            return new Answer(401, null);
        }
        NOTICES.put(id, JSON.readTree(body));
        return new Answer(204, null);
    }

    private static void route(HttpServer server, String path, Route route) {
        server.createContext(path, exchange -> {
            Answer answer;
            try {
                answer = route.answer(exchange);
            } catch (IllegalArgumentException error) {
                answer = new Answer(400, Map.of("detail", error.getMessage()));
            } catch (ConnectException | HttpTimeoutException error) {
                answer = new Answer(502, Map.of("detail", "连不上网关 " + GATEWAY));
            } catch (IOException error) {
                answer = new Answer(502, Map.of("detail", String.valueOf(error.getMessage())));
            } catch (Exception error) {
                error.printStackTrace();
                answer = new Answer(500, Map.of("detail", error.toString()));
            }
            byte[] body = answer.document() == null ? new byte[0] : JSON.writeValueAsBytes(answer.document());
            exchange.getResponseHeaders().set("Content-Type", "application/json; charset=utf-8");
            exchange.sendResponseHeaders(answer.status(), body.length == 0 ? -1 : body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
    }

    /** 路径中的编号，如 /orders/4711/paid 中的 4711。 */
    private static String number(HttpExchange exchange) {
        return exchange.getRequestURI().getPath().split("/")[2];
    }

    /** 网址中的参数，如 ?user=u1 中的 u1。 */
    private static String parameter(HttpExchange exchange, String name) {
        String query = exchange.getRequestURI().getRawQuery();
        return Arrays.stream(query == null ? new String[0] : query.split("&"))
            .filter(pair -> pair.startsWith(name + "=") && pair.length() > name.length() + 1)
            .map(pair -> URLDecoder.decode(pair.substring(name.length() + 1), StandardCharsets.UTF_8))
            .findFirst()
            .orElseThrow(() -> new IllegalArgumentException("网址中缺少参数 " + name));
    }

    private static String env(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    public static void main(String[] args) throws IOException {
        if (SECRET.length == 0) {
            System.err.println("请设置环境变量 SECRET：登记接收地址时得到的 whsec_…");
            System.exit(1);
        }
        int port = Integer.parseInt(env("PORT", "8000"));
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.setExecutor(Executors.newFixedThreadPool(8));
        route(server, "/orders/", exchange ->
            new Answer(200, notifyPaid(number(exchange), parameter(exchange, "user"))));
        route(server, "/leaves/", exchange -> new Answer(200,
            requestLeave(number(exchange), parameter(exchange, "user"), parameter(exchange, "days"))));
        route(server, "/notices", exchange -> new Answer(200, NOTICES.values()));
        route(server, "/dingrelay", Orders::receive);
        server.start();
        System.out.println("http://127.0.0.1:" + port);
    }
}
