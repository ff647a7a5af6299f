<?php

// 订单服务：发消息、发起审批、接收 Webhook。需要 PHP 8.1 以上和 curl 扩展，不用其他包。
declare(strict_types=1);

const NOTICES = __DIR__ . '/notices.jsonl'; // 收到的通知；生产环境应存入数据库，webhook-id 保留一周
const FAILED = ['dead', 'unknown', 'cancelled', 'expired'];
const ATTEMPTS = 5;

/**
 * 幂等键相同的请求只生效一次，所以超时、断网之后可以放心重试。带 Retry-After 的应答（同样的请求还在处理、
 * 超出速率、暂时不可用）稍等后重发。
 */
function post(string $path, string $idempotencyKey, array $body): array
{
    $retryAfter = 0;
    $curl = curl_init((getenv('GATEWAY') ?: 'http://127.0.0.1:8610') . $path);
    curl_setopt_array($curl, [
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_CONNECTTIMEOUT => 5,
        CURLOPT_TIMEOUT => 60,
        CURLOPT_HEADERFUNCTION => function ($curl, string $line) use (&$retryAfter): int {
            if (stripos($line, 'Retry-After:') === 0) {
                $retryAfter = (int) trim(substr($line, 12));
            }
            return strlen($line);
        },
        CURLOPT_HTTPHEADER => [
            'Authorization: Bearer ' . getenv('KEY'),
            'Content-Type: application/json',
            'Accept-Language: zh',
            'Idempotency-Key: ' . $idempotencyKey,
        ],
        CURLOPT_POSTFIELDS => json_encode($body, JSON_THROW_ON_ERROR),
    ]);
    $answer = curl_exec($curl);
    for ($attempt = 1; $attempt < ATTEMPTS && $retryAfter > 0; $attempt++) {
        sleep($retryAfter);
        $retryAfter = 0;
        $answer = curl_exec($curl);
    }
    if ($answer === false) {
        throw new RuntimeException(curl_error($curl));
    }
    $document = json_decode($answer, true, flags: JSON_THROW_ON_ERROR);
    if (curl_getinfo($curl, CURLINFO_RESPONSE_CODE) >= 300) {
        throw new RuntimeException($document['detail'] ?? $document['title']);
    }
    if (in_array($document['state'], FAILED, true)) { // 任务已接收，但没有成功：原因在 error 中
        throw new RuntimeException("任务状态为 {$document['state']}：" . ($document['error']['message'] ?? ''));
    }
    return $document;
}

function notifyPaid(string $order, string $user): array
{
    $message = ['msgtype' => 'text', 'text' => ['content' => "订单 {$order} 已付款（PHP）"]];
    // wait=30：最多等 30 秒，任务结束就返回；没有结束也已提交，结果由 Webhook 通知
    return post('/v1/messages?wait=30', "order-{$order}-paid", ['to' => ['users' => [$user]], 'message' => $message]);
}

function requestLeave(string $number, string $user, string $days): array
{
    return post('/v1/approvals?wait=30', "leave-{$number}", [
        'process_code' => 'PROC-LEAVE',
        'originator' => $user,
        'form' => ['事由' => '出差', '天数' => $days],
    ]);
}

function verified(string $id, string $timestamp, string $signatures, string $body): bool
{
    if (!ctype_digit($timestamp) || abs(time() - (int) $timestamp) > 300) {
        return false;
    }
    $secret = base64_decode(preg_replace('/^whsec_/', '', getenv('SECRET')));
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "{$id}.{$timestamp}.{$body}", $secret, true));
    foreach (explode(' ', $signatures) as $signature) { // 轮换密钥期间有两个，符合其一即可
        if (hash_equals($expected, $signature)) {
            return true;
        }
    }
    return false;
}

/** @return array{int, mixed} HTTP 状态和应答 */
function receive(): array
{
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    $body = file_get_contents('php://input'); // 签名针对原始字节，先验签再解析
    if (!verified($id, $timestamp, $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '', $body)) {
        return [401, null];
    }
    file_put_contents(NOTICES, json_encode([$id, json_decode($body)], JSON_THROW_ON_ERROR) . "\n", FILE_APPEND | LOCK_EX);
    return [204, null];
}

function notices(): array
{
    $seen = []; // 同一通知可能到达多次
    foreach (is_file(NOTICES) ? file(NOTICES) : [] as $line) {
        [$id, $notice] = json_decode($line);
        $seen[$id] = $notice;
    }
    return array_values($seen);
}

/** 网址中的参数，如 ?user=u1 中的 u1。 */
function parameter(string $name): string
{
    return ($_GET[$name] ?? '') ?: throw new InvalidArgumentException("网址中缺少参数 {$name}");
}

function route(string $method, string $path): array
{
    [, $collection, $number, $action] = [...explode('/', $path), '', '', ''];
    return match ("{$method} {$collection} {$action}") {
        'POST orders paid' => [200, notifyPaid($number, parameter('user'))],
        'POST leaves ' => [200, requestLeave($number, parameter('user'), parameter('days'))],
        'GET notices ' => [200, notices()],
        'POST dingrelay ' => receive(),
        default => [404, null],
    };
}

if (!getenv('SECRET')) {
    error_log('请设置环境变量 SECRET：登记接收地址时得到的 whsec_…');
    http_response_code(500);
    exit;
}
try {
    [$status, $document] = route($_SERVER['REQUEST_METHOD'], parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH));
} catch (InvalidArgumentException $error) {
    [$status, $document] = [400, ['detail' => $error->getMessage()]];
} catch (RuntimeException $error) {
    [$status, $document] = [502, ['detail' => $error->getMessage()]];
}
http_response_code($status);
header('Content-Type: application/json; charset=utf-8');
if ($document !== null) {
    echo json_encode($document, JSON_UNESCAPED_UNICODE | JSON_THROW_ON_ERROR);
}
