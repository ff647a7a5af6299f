// dingtalk-stream (official, for Node): listens to events and says what it saw.
// Arguments: where the sandbox is, client id and secret, and what it answers the first event.
// The client has no setting for its address, so its HTTP library leads it elsewhere.
import axios from "axios";
import { DWClient, EventAck } from "dingtalk-stream";

const [url, clientId, clientSecret, first] = process.argv.slice(2);
axios.interceptors.request.use((config) => ({
  ...config,
  url: config.url.replace("https://api.dingtalk.com", url),
}));
console.info = () => {};
const answers = [first];
const client = new DWClient({ clientId, clientSecret, keepAlive: true });
client.registerAllEventListener((event) => {
  const { eventId, eventType } = event.headers;
  const seen = { id: eventId, type: eventType, data: JSON.parse(event.data) };
  process.stdout.write(`${JSON.stringify({ ...seen, registered: client.registered })}\n`);
  return { status: answers.shift() ?? EventAck.SUCCESS };
});
await client.connect();
