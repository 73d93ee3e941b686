// Run by the Go test against a real server: node client.test.mjs URL TOKEN IDENTITY WRONG
import assert from "node:assert/strict";
import { SandboxClient } from "./client.js";

const [url, token, identity, wrong] = process.argv.slice(2);

// What comes is cut off after every few hundred bytes; nothing may be lost or repeated.
let cuts = 0;
const cutting = async (input, init) => {
  const response = await fetch(input, init);
  if (!response.body || !(response.headers.get("content-type") ?? "").includes("ndjson")) return response;
  let left = 900;
  const body = response.body.pipeThrough(new TransformStream({
    transform(chunk, c) {
      if (left <= 0) return;
      c.enqueue(chunk.slice(0, left));
      left -= chunk.length;
      if (left <= 0) { cuts++; c.error(new Error("cut")); }
    },
  }));
  return new Response(body, { status: response.status, headers: response.headers });
};
for (const id of [undefined, identity]) {
  const plain = new SandboxClient({ url, token, identity: id });
  assert.deepEqual(await plain.eval({ code: "return 1" }), { items: [1, 2, 3] });
  assert.equal((await plain.tools()).length, 1);
  await assert.rejects(plain.eval({ code: "throw" }), { name: "SandboxError", code: "EXECUTION_ERROR" });

  const session = await new SandboxClient({ url, token, identity: id, fetch: cutting, tries: 100, wait: 1 }).run({ code: "print" });
  let seq = 0, out = "", last;
  for await (const event of session) {
    assert.equal(event.seq, ++seq);
    if (event.type === "stdout") out += event.payload.chunk;
    last = event;
  }
  assert.equal(last.type, "final");
  assert.equal(out, Array.from({ length: 20 }, (_, i) => "line " + i + "\n").join(""));
  assert.ok(cuts > 1, "the connection was cut");

  const hanging = await plain.run({ code: "hang" });
  const types = [];
  for await (const event of hanging) {
    types.push(event.type);
    if (event.type === "session_init") await hanging.cancel();
    if (event.type === "final") assert.equal(event.payload.error.code, "CANCELLED");
  }
  assert.equal(types.at(-1), "final");
}
const filtered = [];
const some = await new SandboxClient({ url, token }).run({ code: "print", partial: true, filter: { mode: "include", rules: [{ types: { types: ["partial_result"] } }] } });
for await (const event of some) filtered.push(event.seq + " " + event.type);
assert.deepEqual(filtered, ["1 session_init", "24 partial_result", "25 final"]);
await assert.rejects(new SandboxClient({ url, token, identity }).run({ code: "print", filter: "stdout" }), { code: "BAD_REQUEST" });
const giveUp = new AbortController();
const watched = [];
const leaving = new SandboxClient({ url, token, fetch: async (input, init) => {
  watched.push(String(input).split("/").at(-1));
  const response = await fetch(input, init);
  giveUp.abort();
  return response;
} });
await assert.rejects(leaving.eval({ code: "hang" }, giveUp.signal), { name: "AbortError" });
assert.deepEqual(watched, ["sessions", "cancel"]);
await assert.rejects(new SandboxClient({ url, token, identity: wrong }).eval({ code: "return 1" }), { code: "ENCRYPTION_FAILED" });
await assert.rejects(new SandboxClient({ url, token: "nobody" }).eval({ code: "return 1" }), { code: "UNAUTHORIZED" });
// What is not there says so in words; a stream that was under way is tried again instead.
await assert.rejects(new SandboxClient({ url: "http://127.0.0.1:9", token }).eval({ code: "return 1" }),
  { name: "SandboxError", code: "UNREACHABLE", message: /127\.0\.0\.1:9 does not answer: ./ });
let away = 0;
const flaky = new SandboxClient({ url, token, wait: 1, fetch: async (input, init) => {
  if (String(input).includes("/stream") && away++ < 2) throw new TypeError("fetch failed");
  const response = await fetch(input, init);
  return String(input).endsWith("/sessions") ? new Response("", { status: response.status, headers: response.headers }) : response;
} });
assert.deepEqual(await flaky.eval({ code: "return 1" }), { items: [1, 2, 3] });
assert.equal(away, 3, "two tries in vain, one that comes through");
let asked = 0;
const removed = new SandboxClient({ url, token, fetch: async () => {
  asked++;
  const event = { protocolVersion: 2, sessionId: "s_1", seq: 1, type: "error", payload: { code: "TOKEN_REMOVED", message: "gone" } };
  return new Response(JSON.stringify(event) + "\n", { headers: { location: "/sessions/s_1" } });
} });
await assert.rejects(removed.eval({ code: "print" }), { code: "TOKEN_REMOVED" });
assert.equal(asked, 1, "nothing is tried again");
console.log("ok");
