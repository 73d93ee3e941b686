package client

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/session"
	"enclave/sandbox/tools"
	"enclave/wire/envelope"
)

const token = "alice-token-0123456789"

// puppet is a runner whose runs do what their source says in a word.
type puppet struct{}

func (puppet) Run(ctx context.Context, spec sandbox.Spec, b sandbox.Broker) sandbox.Result {
	switch spec.Source {
	case "print":
		for i := range 20 {
			b.Output(sandbox.Line{Stream: sandbox.StreamOut, Text: fmt.Sprint("line ", i)})
		}
	case "throw":
		return sandbox.Result{Error: sandbox.Errorf(sandbox.CodeScript, "thrown")}
	case "hang":
		<-ctx.Done()
		return sandbox.Result{Error: sandbox.Errorf(sandbox.CodeCancelled, "ended")}
	}
	out, err := b.CallTool(ctx, sandbox.Call{ID: 1, Name: "users:list", Args: json.RawMessage(`{}`)})
	return sandbox.Result{OK: err == nil, Value: out, Error: err}
}

// serve starts a server; wrap may stand between it and its clients.
func serve(t *testing.T, wrap func(http.Handler) http.Handler) (url string, identity ed25519.PublicKey) {
	t.Helper()
	file, err := tools.Load([]byte(`{"version":1,"tools":[{"name":"users:list","serve":{"canned":{"result":{"items":[1,2,3]}}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	reg, err := tools.Open(t.Context(), file, tools.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := session.ParseTokens([]byte(token + " alice"))
	if err != nil {
		t.Fatal(err)
	}
	pub, priv, _ := ed25519.GenerateKey(nil)
	s := session.New(session.Config{Host: &session.Host{Runner: puppet{}, Tools: reg}, Tokens: tok, Identity: priv})
	h := s.Handler()
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(func() { s.Close(); srv.Close() })
	return srv.URL, pub
}

func TestEval(t *testing.T) {
	url, identity := serve(t, nil)
	for _, c := range []*Client{{URL: url, Token: token}, {URL: url, Token: token, Identity: identity}} {
		var got struct{ Items []int }
		if err := c.Eval(t.Context(), Request{Code: "return 1"}, &got); err != nil || len(got.Items) != 3 {
			t.Errorf("%v, %v", got, err)
		}
		var f *Failure
		if err := c.Eval(t.Context(), Request{Code: "throw"}, nil); !errors.As(err, &f) || f.Code != "EXECUTION_ERROR" {
			t.Errorf("%v", err)
		}
		s, err := c.Run(t.Context(), Request{Code: "hang"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Cancel(t.Context()); err != nil {
			t.Error(err)
		}
		var last Event
		for e, err := s.Next(t.Context()); err == nil; e, err = s.Next(t.Context()) {
			last = e
		}
		if !strings.Contains(string(last.Payload), "CANCELLED") {
			t.Errorf("%s", last.Payload)
		}
	}
	var r *Refused
	if err := (&Client{URL: url, Token: "nobody"}).Eval(t.Context(), Request{Code: "1"}, nil); !errors.As(err, &r) || r.Status != 401 {
		t.Errorf("%v", err)
	}
}

func TestAFilteredSession(t *testing.T) {
	url, identity := serve(t, nil)
	c := &Client{URL: url, Token: token}
	s, err := c.Run(t.Context(), Request{Code: "print", Filter: "partial_result", Partial: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for e, err := s.Next(t.Context()); err != io.EOF; e, err = s.Next(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e.Seq, " ", e.Type))
	}
	if want := "1 session_init, 24 partial_result, 25 final"; strings.Join(got, ", ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	c.Identity = identity
	if _, err := c.Run(t.Context(), Request{Code: "print", Filter: "stdout"}); !errors.Is(err, ErrFilter) {
		t.Errorf("%v", err)
	}
}

func TestGivingUpCancelsTheRun(t *testing.T) {
	cancelled := make(chan string, 1)
	url, _ := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/cancel") {
				cancelled <- r.URL.Path
			}
			h.ServeHTTP(w, r)
		})
	})
	ctx, stop := context.WithCancel(t.Context())
	c := &Client{URL: url, Token: token, HTTP: &http.Client{Transport: onceStreaming(stop)}}
	if err := c.Eval(ctx, Request{Code: "hang"}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	select {
	case <-cancelled:
	default:
		t.Error("the run goes on")
	}
}

// onceStreaming calls what it is when an answer has begun.
type onceStreaming func()

func (o onceStreaming) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && r.Method == http.MethodPost && r.URL.Path == "/sessions" {
		o()
	}
	return res, err
}

// cutting ends every answer after so many bytes, the hard way.
type cutting struct {
	http.ResponseWriter
	left int
	cuts *atomic.Int32
}

func (c *cutting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *cutting) Write(b []byte) (int, error) {
	if len(b) > c.left {
		c.ResponseWriter.Write(b[:c.left])
		http.NewResponseController(c.ResponseWriter).Flush()
		c.cuts.Add(1)
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

func TestADroppedConnectionLosesNothing(t *testing.T) {
	var cuts atomic.Int32
	url, identity := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "sessions") {
				w = &cutting{w, 700, &cuts}
			}
			h.ServeHTTP(w, r)
		})
	})
	for _, c := range []*Client{{URL: url, Token: token}, {URL: url, Token: token, Identity: identity}} {
		s, err := c.Run(t.Context(), Request{Code: "print"})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		seq := uint64(0)
		for {
			e, err := s.Next(t.Context())
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("after %d: %v", seq, err)
			}
			if seq++; e.Seq != seq {
				t.Errorf("event %d where %d is next", e.Seq, seq)
			}
			var p struct{ Chunk string }
			if json.Unmarshal(e.Payload, &p); e.Type == "stdout" {
				out.WriteString(p.Chunk)
			}
		}
		if strings.Count(out.String(), "line") != 20 || cuts.Load() < 3 {
			t.Errorf("%d cuts, read %q", cuts.Load(), out.String())
		}
	}
}

func TestAnActiveMiddlemanIsRefused(t *testing.T) {
	_, evil, _ := ed25519.GenerateKey(nil)
	var seen strings.Builder
	attacks := map[string]func(path string, body []byte) []byte{
		"answers the handshake itself": func(path string, body []byte) []byte {
			if path != "/handshake" {
				return body
			}
			c, _ := envelope.NewClient()
			w, _, _, _ := envelope.Accept(&c.Hello, "s_1", evil)
			out, _ := json.Marshal(w)
			return out
		},
		"changes an event": func(path string, body []byte) []byte {
			return []byte(strings.Replace(string(body), `"ciphertextB64":"A`, `"ciphertextB64":"B`, 1) + strings.Repeat(" ", 0))
		},
		"repeats an event":   func(path string, body []byte) []byte { return twice(path, body) },
		"leaves one out":     func(path string, body []byte) []byte { return without(path, body) },
		"strips the sealing": func(path string, body []byte) []byte { return stripped(path, body) },
	}
	for name, attack := range attacks {
		url, identity := serve(t, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				in, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(strings.NewReader(string(in)))
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				seen.Write(in)
				seen.Write(rec.Body.Bytes())
				for k, v := range rec.Header() {
					w.Header()[k] = v
				}
				body := attack(r.URL.Path, rec.Body.Bytes())
				if name == "changes an event" && strings.Contains(r.URL.Path, "sessions") {
					i := strings.Index(string(body), `"ciphertextB64":"`) + len(`"ciphertextB64":"`)
					if body[i] == 'A' {
						body[i] = 'B'
					} else {
						body[i] = 'A'
					}
				}
				w.WriteHeader(rec.Code)
				w.Write(body)
			})
		})
		c := &Client{URL: url, Token: token, Identity: identity}
		err := c.Eval(t.Context(), Request{Code: "print"}, nil)
		if !errors.Is(err, envelope.ErrIdentity) && !errors.Is(err, envelope.ErrSealed) && !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, word := range []string{"print", "line 1", "items", "users:list"} {
		if strings.Contains(seen.String(), word) {
			t.Errorf("the middleman read %q", word)
		}
	}
}

func eachLine(path string, body []byte, change func(lines []string) []string) []byte {
	if !strings.HasPrefix(path, "/sessions") {
		return body
	}
	return []byte(strings.Join(change(strings.SplitAfter(string(body), "\n")), ""))
}

func twice(path string, body []byte) []byte {
	return eachLine(path, body, func(l []string) []string { return append([]string{l[0], l[0]}, l[1:]...) })
}

func without(path string, body []byte) []byte {
	return eachLine(path, body, func(l []string) []string { return append([]string{l[0]}, l[2:]...) })
}

func stripped(path string, body []byte) []byte {
	return eachLine(path, body, func(l []string) []string {
		return []string{strings.Replace(l[0], `"type":"enc"`, `"type":"final"`, 1)}
	})
}

func TestTypeScriptClientUnderNode(t *testing.T) {
	ts, err := os.ReadFile("ts/client.ts")
	if err != nil {
		t.Fatal(err)
	}
	js, err := os.ReadFile("ts/client.js")
	sum := sha256.Sum256(ts)
	if err != nil || !strings.HasPrefix(string(js), "// Made of client.ts by build.sh: sha256 "+hex.EncodeToString(sum[:])) {
		t.Error("client.js is not made of this client.ts: run sandbox/client/ts/build.sh")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node on this machine: the TypeScript client was not tested")
	}
	url, identity := serve(t, nil)
	wrong, _, _ := ed25519.GenerateKey(nil)
	// The limit is for a client that hangs: a busy machine takes its time to start node.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "ts/client.test.mjs", url, token, base64.StdEncoding.EncodeToString(identity), base64.StdEncoding.EncodeToString(wrong))
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "ok") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestAStreamThatItsTokenEnds: a client that is refused is told so, and does not come back.
func TestAStreamThatItsTokenEnds(t *testing.T) {
	calls := 0
	url, _ := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls++
			w.Header().Set("Location", "/sessions/s_1")
			io.WriteString(w, `{"protocolVersion":2,"sessionId":"s_1","seq":1,"type":"error","payload":{"code":"TOKEN_REMOVED","message":"gone"}}`+"\n")
		})
	})
	var r *Refused
	if err := (&Client{URL: url, Token: token}).Eval(t.Context(), Request{Code: "print"}, nil); !errors.As(err, &r) || r.Code != "TOKEN_REMOVED" || r.Status != 401 {
		t.Errorf("%v", err)
	}
	if calls != 1 {
		t.Errorf("it came back: %d calls", calls)
	}
}
