// Made of client.ts by build.sh: sha256 e90925577066bf72f5c3c8606e933979564b8744d23ac87d44731d43212d28da
// Client of a sandbox server, for Node 20 and browsers. No dependencies. The types can be
// erased: client.js is this file without them (tsc --target es2022), and Node 22 and
// newer run this one as it is. The wire is docs/format/sandbox-session.md.
export class SandboxError extends Error {
    code;
    /** Where in the script, from 1; undefined when that is not known. */
    line;
    column;
    /** All that is wrong with a script that was refused. */
    findings;
    /** What the scoring gate said: score, action, signals. */
    verdict;
    constructor(code, message) {
        super(message);
        this.name = "SandboxError";
        this.code = code;
    }
}
const maxEvent = 48 * 1024 * 1024;
const text = new TextEncoder();
export class SandboxClient {
    options;
    constructor(options) {
        this.options = options;
    }
    /** Runs code and returns what it returned. Aborting it cancels the run. */
    async eval(request, signal) {
        const session = await this.run(request, signal);
        try {
            return await this.last(session);
        }
        catch (e) {
            // Nobody else knows of this session, so nobody would come back to it.
            if (signal?.aborted)
                await session.cancel().catch(() => { });
            throw e;
        }
    }
    async last(session) {
        for await (const event of session) {
            if (event.type !== "final")
                continue;
            if (event.payload.ok)
                return event.payload.result;
            const e = event.payload.error ?? { code: "INTERNAL_ERROR", message: "the run failed" };
            const { findings, verdict } = event.payload;
            throw Object.assign(new SandboxError(e.code, e.message), { line: e.line, column: e.column, findings, verdict });
        }
        throw new SandboxError("PROTOCOL", "the stream ended without a final event");
    }
    /** Starts a session. A start is never repeated by itself: the script may have run. */
    async run(request, signal) {
        const { filter: wanted, ...rest } = request;
        let body = rest;
        let keys;
        let id = "";
        let filter = "";
        if (wanted !== undefined) {
            if (this.options.identity)
                throw new SandboxError("BAD_REQUEST", "a sealed session cannot be filtered by its server");
            filter = "filter=" + encodeURIComponent(typeof wanted === "string" ? wanted : JSON.stringify(wanted));
        }
        if (this.options.identity) {
            const greeted = await handshake(this);
            keys = greeted.keys;
            id = greeted.id;
            const payload = await keys.seal(1, text.encode(JSON.stringify(rest)));
            body = { sealed: { sessionId: id, seq: 1, payload } };
        }
        const response = await this.call("POST", "/sessions" + (filter && "?" + filter), body, "application/x-ndjson", signal);
        if (!id) {
            const m = /^\/sessions\/([^/?#]+)$/.exec(response.headers.get("location") ?? "");
            if (!m)
                throw new SandboxError("PROTOCOL", "the server named no session");
            id = m[1];
        }
        return new SandboxSession(this, id, response, keys, signal, filter);
    }
    async tools() {
        return (await (await this.call("GET", "/tools", undefined, "application/json")).json()).tools;
    }
    async call(method, path, body, accept, signal) {
        const headers = { authorization: "Bearer " + this.options.token, accept };
        if (body !== undefined)
            headers["content-type"] = "application/json";
        let response;
        try {
            response = await (this.options.fetch ?? fetch)(this.options.url.replace(/\/$/, "") + path, {
                method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: signal ?? null,
            });
        }
        catch (e) {
            if (signal?.aborted)
                throw e;
            const why = e?.cause?.message || e?.cause?.code || e?.message || "no reason given";
            throw Object.assign(new SandboxError("UNREACHABLE", this.options.url + " does not answer: " + why), { cause: e });
        }
        if (response.ok)
            return response;
        let e = {};
        try {
            e = (await response.json()).error ?? {};
        }
        catch {
            // the status says enough
        }
        throw new SandboxError(e.code ?? "HTTP_" + response.status, e.message ?? "the server answered " + response.status);
    }
}
/** The events of a session, in order, each once; a dropped connection is made again. */
export class SandboxSession {
    client;
    id;
    last = 0;
    response;
    keys;
    signal;
    filter;
    constructor(client, id, response, keys, signal, filter = "") {
        this.client = client;
        this.id = id;
        this.response = response;
        this.keys = keys;
        this.signal = signal;
        this.filter = filter;
    }
    async cancel() {
        await this.client.call("POST", "/sessions/" + this.id + "/cancel", undefined, "application/json");
    }
    async *[Symbol.asyncIterator]() {
        const tries = this.client.options.tries ?? 5;
        const first = this.client.options.wait ?? 1000;
        let wait = first;
        for (let failed = 0;;) {
            try {
                this.response ??= await this.client.call("GET", "/sessions/" + this.id + "/stream?fromSeq=" + (this.last + 1) + (this.filter && "&" + this.filter), undefined, "application/x-ndjson", this.signal);
                const response = this.response;
                this.response = undefined;
                for await (const line of lines(response, this.client.options.silence ?? 45000)) {
                    const event = await this.take(JSON.parse(line));
                    if (!event)
                        continue;
                    failed = 0;
                    wait = first;
                    yield event;
                    if (event.type === "final")
                        return;
                }
            }
            catch (e) {
                if (e instanceof SandboxError && !/^HTTP_5|^TOO_MANY|^UNREACHABLE$/.test(e.code))
                    throw e;
                if (e instanceof SyntaxError)
                    throw new SandboxError("PROTOCOL", "the server's stream is malformed");
                if (this.signal?.aborted)
                    throw e;
            }
            if (++failed >= tries)
                throw new SandboxError("DISCONNECTED", "the connection could not be made again");
            await new Promise((done) => setTimeout(done, wait * (0.85 + 0.3 * Math.random())));
            wait = Math.min(2 * wait, 30000);
        }
    }
    /** Checks an event and opens it; undefined for what is of the connection alone. */
    async take(event) {
        if (event.sessionId !== this.id)
            throw new SandboxError("PROTOCOL", "an event of another session");
        if (event.type === "heartbeat")
            return undefined;
        if (event.type === "error")
            throw new SandboxError(event.payload.code, event.payload.message);
        if (event.seq <= this.last || (event.seq !== this.last + 1 && !this.filter))
            throw new SandboxError("PROTOCOL", "event " + event.seq + " after " + this.last);
        if (this.keys) {
            if (event.type !== "enc")
                throw new SandboxError("ENCRYPTION_FAILED", "an event that is not sealed");
            const inner = JSON.parse(new TextDecoder().decode(await this.keys.open(event.seq, event.payload)));
            event = { ...event, type: inner.type, payload: inner.payload };
        }
        this.last = event.seq;
        return event;
    }
}
async function* lines(response, silence) {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    try {
        for (;;) {
            let timer;
            const late = new Promise((_, no) => {
                timer = setTimeout(() => no(new Error("silence")), silence);
            });
            const { done, value } = await Promise.race([reader.read(), late]).finally(() => clearTimeout(timer));
            if (done)
                return;
            rest += decoder.decode(value, { stream: true });
            if (rest.length > maxEvent)
                throw new SandboxError("PROTOCOL", "an event is too long");
            const parts = rest.split("\n");
            rest = parts.pop();
            for (const line of parts)
                if (line)
                    yield line;
        }
    }
    finally {
        reader.cancel().catch(() => { });
    }
}
// Envelopes: docs/format/sandbox-envelope.md.
const b64 = (b) => btoa(Array.from(b, (c) => String.fromCharCode(c)).join(""));
const unb64 = (s) => Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
function join(...parts) {
    const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
    let at = 0;
    for (const p of parts) {
        out.set(p, at);
        at += p.length;
    }
    return out;
}
function number(n, bytes) {
    const out = new Uint8Array(bytes);
    new DataView(out.buffer).setUint32(bytes - 4, n);
    return out;
}
class Keys {
    up;
    down;
    session;
    constructor(up, down, session) {
        this.up = up;
        this.down = down;
        this.session = session;
    }
    params(seq, direction) {
        const session = text.encode(this.session);
        const kind = text.encode("enc");
        return {
            name: "AES-GCM", iv: join(new Uint8Array(4), number(seq, 8)),
            additionalData: join(text.encode("enclave envelope v1\0"), Uint8Array.of(direction), number(seq, 8), Uint8Array.of(kind.length), kind, Uint8Array.of(session.length), session),
        };
    }
    async seal(seq, plain) {
        const params = this.params(seq, 1);
        const sealed = await crypto.subtle.encrypt(params, this.up, plain);
        return { kid: "1", nonceB64: b64(params.iv), ciphertextB64: b64(new Uint8Array(sealed)) };
    }
    async open(seq, box) {
        try {
            const params = this.params(seq, 2);
            if (box.kid !== "1" || box.nonceB64 !== b64(params.iv))
                throw new Error("nonce");
            return await crypto.subtle.decrypt(params, this.down, unb64(box.ciphertextB64));
        }
        catch {
            throw new SandboxError("ENCRYPTION_FAILED", "a sealed event does not open");
        }
    }
}
async function handshake(client) {
    const own = (await crypto.subtle.generateKey({ name: "ECDH", namedCurve: "P-256" }, false, ["deriveBits"]));
    const key = new Uint8Array(await crypto.subtle.exportKey("raw", own.publicKey));
    const nonce = crypto.getRandomValues(new Uint8Array(32));
    const w = await (await client.call("POST", "/handshake", { keyB64: b64(key), nonceB64: b64(nonce) }, "application/json")).json();
    const fail = () => new SandboxError("ENCRYPTION_FAILED", "the server does not prove the identity that was pinned");
    if (w.identityB64 !== client.options.identity)
        throw fail();
    const theirs = unb64(w.keyB64);
    const identity = unb64(w.identityB64);
    const parts = [text.encode(w.sessionId), key, nonce, theirs, unb64(w.nonceB64), identity];
    const said = join(text.encode("enclave sandbox handshake v1\0"), ...parts.flatMap((p) => [number(p.length, 4), p]));
    const transcript = new Uint8Array(await crypto.subtle.digest("SHA-256", said));
    const verifier = await crypto.subtle.importKey("raw", identity, { name: "Ed25519" }, false, ["verify"]);
    if (!(await crypto.subtle.verify({ name: "Ed25519" }, verifier, unb64(w.signatureB64), transcript)))
        throw fail();
    const peer = await crypto.subtle.importKey("raw", theirs, { name: "ECDH", namedCurve: "P-256" }, false, []);
    const shared = await crypto.subtle.deriveBits({ name: "ECDH", public: peer }, own.privateKey, 256);
    const base = await crypto.subtle.importKey("raw", shared, "HKDF", false, ["deriveKey"]);
    const derive = (info, use) => crypto.subtle.deriveKey({ name: "HKDF", hash: "SHA-256", salt: transcript, info: text.encode(info) }, base, { name: "AES-GCM", length: 256 }, false, [use]);
    const up = await derive("enclave sandbox v1 client to server", "encrypt");
    const down = await derive("enclave sandbox v1 server to client", "decrypt");
    return { id: w.sessionId, keys: new Keys(up, down, w.sessionId) };
}
