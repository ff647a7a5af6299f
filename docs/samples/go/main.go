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

var (
	gateway = env("GATEWAY", "http://127.0.0.1:8610")
	key     = os.Getenv("KEY")
	client  = &http.Client{Timeout: time.Minute}
)

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// 幂等键相同的请求只生效一次，所以超时、断网之后可以放心重试。
func post(path, idempotencyKey string, body object) (object, error) {
	content, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodPost, gateway+path, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept-Language", "zh")
	request.Header.Set("Idempotency-Key", idempotencyKey)
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	document := object{}
	if err := json.NewDecoder(answer.Body).Decode(&document); err != nil {
		return nil, err
	}
	if answer.StatusCode >= 300 {
		return nil, fmt.Errorf("%v", document["detail"])
	}
	return document, nil
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

func main() {
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("SECRET"), "whsec_"))
	if err != nil {
		log.Fatal("SECRET: ", err)
	}
	received := &notices{byID: map[string]json.RawMessage{}}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /orders/{number}/paid", func(writer http.ResponseWriter, request *http.Request) {
		job, err := notifyPaid(request.PathValue("number"), request.FormValue("user"))
		answer(writer, job, err)
	})
	routes.HandleFunc("POST /leaves/{number}", func(writer http.ResponseWriter, request *http.Request) {
		job, err := requestLeave(request.PathValue("number"), request.FormValue("user"), request.FormValue("days"))
		answer(writer, job, err)
	})
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
