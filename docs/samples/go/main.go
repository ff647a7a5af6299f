// 订单服务：发消息、发起审批、接收 Webhook。只用标准库，需要 Go 1.22 以上。
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

type object = map[string]any

const attempts = 5

var (
	gateway = env("GATEWAY", "http://127.0.0.1:8610")
	key     = os.Getenv("KEY")
	client  = &http.Client{Timeout: time.Minute}
	failed  = map[any]bool{"dead": true, "unknown": true, "cancelled": true, "expired": true}
)

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// 幂等键相同的请求只生效一次，所以超时、断网之后可以放心重试。带 Retry-After 的应答（同样的请求还在处理、
// 超出速率、暂时不可用）稍等后重发。
func post(path, idempotencyKey string, body object) (object, error) {
	content, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		document, wait, err := try(path, idempotencyKey, content)
		if wait == 0 || attempt == attempts {
			return document, err
		}
		time.Sleep(wait)
	}
}

// 一次请求；要重发时给出等待的时间。
func try(path, idempotencyKey string, content []byte) (object, time.Duration, error) {
	request, err := http.NewRequest(http.MethodPost, gateway+path, bytes.NewReader(content))
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept-Language", "zh")
	request.Header.Set("Idempotency-Key", idempotencyKey)
	answer, err := client.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	document := object{}
	if err := json.NewDecoder(answer.Body).Decode(&document); err != nil {
		return nil, 0, err
	}
	if answer.StatusCode >= 300 {
		seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
		return nil, time.Duration(seconds) * time.Second, fmt.Errorf("%v", document["detail"])
	}
	if failed[document["state"]] { // 任务已接收，但没有成功：原因在 error 中
		reason, _ := document["error"].(object)
		return nil, 0, fmt.Errorf("任务状态为 %v：%v", document["state"], reason["message"])
	}
	return document, 0, nil
}

func notifyPaid(order, user string) (object, error) {
	text := fmt.Sprintf("订单 %s 已付款（Go）", order)
	// wait=30：最多等 30 秒，任务结束就返回；没有结束也已提交，结果由 Webhook 通知
	return post("/v1/messages?wait=30", "order-"+order+"-paid", object{
		"to":      object{"users": []string{user}},
		"message": object{"msgtype": "text", "text": object{"content": text}},
	})
}

func requestLeave(number, user, days string) (object, error) {
	return post("/v1/approvals?wait=30", "leave-"+number, object{
		"process_code": "PROC-LEAVE",
		"originator":   user,
		"form":         object{"事由": "出差", "天数": days},
	})
}

func verified(secret []byte, header http.Header, body []byte) bool {
	timestamp := header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || math.Abs(float64(time.Now().Unix()-seconds)) > 300 {
		return false
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", header.Get("webhook-id"), timestamp, body)
	expected := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, signature := range strings.Fields(header.Get("webhook-signature")) {
		if hmac.Equal([]byte(expected), []byte(signature)) { // 轮换密钥期间有两个，符合其一即可
			return true
		}
	}
	return false
}

// 收到的通知，以 webhook-id 为键：同一通知可能到达多次。生产环境应存入数据库，保留一周。
type notices struct {
	lock sync.Mutex
	byID map[string]json.RawMessage
}

func (all *notices) add(id string, notice []byte) {
	all.lock.Lock()
	defer all.lock.Unlock()
	all.byID[id] = notice
}

func (all *notices) list() []json.RawMessage {
	all.lock.Lock()
	defer all.lock.Unlock()
	list := []json.RawMessage{}
	for _, notice := range all.byID {
		list = append(list, notice)
	}
	return list
}

func answer(writer http.ResponseWriter, document any, err error) {
	writer.Header().Set("Content-Type", "application/json; charset=utf-8")
	if err != nil {
		writer.WriteHeader(http.StatusBadGateway)
		document = object{"detail": err.Error()}
	}
	if err := json.NewEncoder(writer).Encode(document); err != nil {
		log.Print(err)
	}
}

// 缺少网址中的参数时应答 400。
func needs(handler http.HandlerFunc, names ...string) http.HandlerFunc {
	return func(writer http.ResponseWriter, request *http.Request) {
		for _, name := range names {
			if request.FormValue(name) == "" {
				writer.Header().Set("Content-Type", "application/json; charset=utf-8")
				writer.WriteHeader(http.StatusBadRequest)
				fmt.Fprintf(writer, `{"detail": "网址中缺少参数 %s"}`, name)
				return
			}
		}
		handler(writer, request)
	}
}

func main() {
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("SECRET"), "whsec_"))
	if err != nil || len(secret) == 0 {
		log.Fatal("请设置环境变量 SECRET：登记接收地址时得到的 whsec_…")
	}
	received := &notices{byID: map[string]json.RawMessage{}}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /orders/{number}/paid", needs(func(writer http.ResponseWriter, request *http.Request) {
		job, err := notifyPaid(request.PathValue("number"), request.FormValue("user"))
		answer(writer, job, err)
	}, "user"))
	routes.HandleFunc("POST /leaves/{number}", needs(func(writer http.ResponseWriter, request *http.Request) {
		job, err := requestLeave(request.PathValue("number"), request.FormValue("user"), request.FormValue("days"))
		answer(writer, job, err)
	}, "user", "days"))
	routes.HandleFunc("GET /notices", func(writer http.ResponseWriter, _ *http.Request) {
		answer(writer, received.list(), nil)
	})
	routes.HandleFunc("POST /dingrelay", func(writer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body) // 签名针对原始字节，先验签再解析
		if err != nil || !verified(secret, request.Header, body) {
			writer.WriteHeader(http.StatusUnauthorized)
			return
		}
		received.add(request.Header.Get("webhook-id"), body)
		writer.WriteHeader(http.StatusNoContent)
	})
	address := "127.0.0.1:" + env("PORT", "8000")
	log.Print("http://" + address)
	log.Fatal(http.ListenAndServe(address, routes))
}
