package control

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"enclave/control/admin"
	"enclave/store"
	"enclave/store/audit"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// world is a control server on loopback with its store, and what a test needs to
// call it.
type world struct {
	full  atomic.Bool // no audit record can be written
	t     *testing.T
	dir   string
	store *store.Store
	srv   *Server
	addr  string
	token admin.Token
	stop  func()

	net     *pipes // nil on loopback
	clients []*http.Client
	calls   *http.Client // of the API
}

var admins = store.Change{By: "test"}

func at(now time.Time) store.Change { c := admins; c.At = now; return c }

// errFull is why no audit record can be written while world.full is set.
var errFull = errors.New("the disk is full")

// newWorld makes a new organisation and serves it.
func newWorld(t *testing.T, edit ...func(*Config, *store.Settings)) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir() + "/state"}
	settings := store.DefaultSettings()
	for _, e := range edit {
		e(&Config{}, &settings)
	}
	st, err := store.Open(t.Context(), w.dir, store.OnRecord(func(*audit.Record) error {
		if w.full.Load() {
			return errFull
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), st, at(time.Now()), "test", settings); err != nil {
		t.Fatal(err)
	}
	w.token = admin.NewToken()
	_, err = st.CreateToken(t.Context(), at(time.Now()), store.TokenParams{Name: "root", Scopes: []string{"admin"}, Secret: w.token.Hash()})
	if err != nil {
		t.Fatal(err)
	}
	w.serve(st, edit...)
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) serve(st *store.Store, edit ...func(*Config, *store.Settings)) {
	w.t.Helper()
	cfg := Config{Store: st, Logger: slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), Version: "test"}
	for _, e := range edit {
		e(&cfg, &store.Settings{})
	}
	srv, err := New(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx, l) }()
	w.store, w.srv, w.addr = st, srv, l.Addr().String()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("run: %v", err)
		}
		if err := st.Close(); err != nil {
			w.t.Error(err)
		}
		w.stop = func() {}
	}
}

// restart ends the server and begins another on the same directory.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.calls = nil
	st, err := store.Open(w.t.Context(), w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.serve(st)
}

// client calls the server; with a nil source it has no SVID.
func (w *world) client(source svid.Source) *http.Client {
	cfg := svid.ClientConfig(w.srv.Trust(), source, svid.Control(w.srv.Trust().Org))
	t := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
	if w.net != nil {
		t.DialContext = w.net.dial
	}
	c := &http.Client{Transport: t}
	w.clients = append(w.clients, c)
	w.t.Cleanup(t.CloseIdleConnections)
	return c
}

// do sends JSON and reads JSON; a refusal comes back as the problem.
func do(t *testing.T, c *http.Client, method, url string, header http.Header, in, out any) (*http.Response, *api.Problem) {
	t.Helper()
	var body io.Reader
	if in != nil {
		b, ok := in.([]byte)
		if !ok {
			var err error
			if b, err = json.Marshal(in); err != nil {
				t.Fatal(err)
			}
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode >= 400 {
		var p api.Problem
		if err := json.Unmarshal(b, &p); err != nil || p.Code == "" {
			t.Fatalf("%s %s: %d without a problem: %s", method, url, resp.StatusCode, b)
		}
		if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("%s %s: a problem of type %q", method, url, ct)
		}
		return resp, &p
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			t.Fatalf("%s %s: %v in %s", method, url, err, b)
		}
	}
	return resp, nil
}

// api calls the administration API and must succeed.
func (w *world) api(method, path string, in, out any) *http.Response {
	w.t.Helper()
	resp, p := w.tryAPI(method, path, in, out)
	if p != nil {
		w.t.Fatalf("%s %s: %s (%s) %v", method, path, p.Error(), p.Code, p.Problems)
	}
	return resp
}

func (w *world) tryAPI(method, path string, in, out any) (*http.Response, *api.Problem) {
	w.t.Helper()
	if w.calls == nil {
		w.calls = w.client(nil)
	}
	return do(w.t, w.calls, method, "https://"+w.addr+admin.Prefix+path,
		http.Header{"Authorization": {"Bearer " + string(w.token)}}, in, out)
}

// key makes an enrolment key and returns its secret.
func (w *world) key(k api.KeyCreate) api.KeyCreated {
	w.t.Helper()
	var out api.KeyCreated
	w.api("POST", "/keys", k, &out)
	return out
}

// machine is an agent as far as the protocol goes.
type machine struct {
	w        *world
	identity ed25519.PrivateKey
	keys     wire.Keys
	id       wire.SystemID
	cert     *tls.Certificate
	c        *http.Client
}

func (w *world) machine() *machine {
	_, identity, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	var wg wire.WireGuardKey
	var disco wire.DiscoKey
	rand.Read(wg[:])
	rand.Read(disco[:])
	return &machine{w: w, identity: identity, keys: svid.SignKeys(identity, wg, disco)}
}

func (m *machine) request(secret, name string) wire.EnrolRequest {
	return wire.EnrolRequest{Version: wire.Version, Now: time.Now(), Secret: secret, Name: name, Keys: m.keys, Host: wire.Host{Hostname: name}}
}

// tryEnrol enrols; a refusal comes back as the problem.
func (m *machine) tryEnrol(req wire.EnrolRequest) (wire.EnrolResponse, *api.Problem) {
	m.w.t.Helper()
	var resp wire.EnrolResponse
	_, p := do(m.w.t, m.w.client(nil), "POST", "https://"+m.w.addr+wire.PathEnrol, nil, req, &resp)
	if p == nil {
		m.id = resp.System
		m.use(resp.SVID)
	}
	return resp, p
}

func (m *machine) enrol(secret, name string) wire.EnrolResponse {
	m.w.t.Helper()
	resp, p := m.tryEnrol(m.request(secret, name))
	if p != nil {
		m.w.t.Fatalf("enrol %s: %s (%s)", name, p.Error(), p.Code)
	}
	return resp
}

// use makes the machine call with a certificate chain from now on.
func (m *machine) use(chain [][]byte) {
	m.cert = &tls.Certificate{Certificate: chain, PrivateKey: m.identity}
	cert := m.cert
	m.c = m.w.client(func() (*tls.Certificate, error) { return cert, nil })
}

func (m *machine) call(method, path string, in, out any) *api.Problem {
	m.w.t.Helper()
	_, p := do(m.w.t, m.c, method, "https://"+m.w.addr+path, nil, in, out)
	return p
}

func (m *machine) ack(rev wire.Revision) {
	m.w.t.Helper()
	if p := m.call("POST", wire.PathReport, wire.Report{Applied: rev}, nil); p != nil {
		m.w.t.Fatalf("report: %v", p)
	}
}

// feed is an open map stream.
type feed struct {
	t      *testing.T
	m      *machine
	body   io.Closer
	lines  *bufio.Reader
	Map    wire.Map
	deltas int
}

// stream opens the map stream and reads the full map.
func (m *machine) stream() *feed {
	m.w.t.Helper()
	req, err := http.NewRequestWithContext(m.w.t.Context(), "GET", "https://"+m.w.addr+wire.PathStream, nil)
	if err != nil {
		m.w.t.Fatal(err)
	}
	resp, err := m.c.Do(req)
	if err != nil {
		m.w.t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		m.w.t.Fatalf("stream: %s", resp.Status)
	}
	f := &feed{t: m.w.t, m: m, body: resp.Body, lines: bufio.NewReader(resp.Body)}
	m.w.t.Cleanup(func() { resp.Body.Close() })
	if msg := f.next(); msg.Map == nil {
		m.w.t.Fatalf("a stream began with %+v", msg)
	}
	return f
}

// next reads a message and applies it.
func (f *feed) next() wire.Message {
	f.t.Helper()
	line, err := f.lines.ReadBytes('\n')
	if err != nil {
		f.t.Fatalf("stream: %v", err)
	}
	var msg wire.Message
	if err := wire.Unmarshal(line, &msg); err != nil {
		f.t.Fatalf("message %s: %v", line, err)
	}
	switch {
	case msg.Map != nil:
		f.Map = *msg.Map
	case msg.Delta != nil:
		f.deltas++
		if err := f.Map.Apply(msg.Delta); err != nil {
			f.t.Fatal(err)
		}
	case msg.Heartbeat != nil:
		if msg.Heartbeat.Revision != f.Map.Revision {
			f.t.Fatalf("heartbeat of revision %d over a map of %d", msg.Heartbeat.Revision, f.Map.Revision)
		}
		f.Map.ValidUntil = msg.Heartbeat.ValidUntil
	}
	return msg
}

// delta reads up to the next delta and acknowledges it.
func (f *feed) delta() *wire.Delta {
	f.t.Helper()
	for {
		if msg := f.next(); msg.Delta != nil {
			f.m.ack(f.Map.Revision)
			return msg.Delta
		} else if msg.Bye != nil {
			f.t.Fatalf("bye instead of a delta: %+v", msg.Bye)
		}
	}
}

// bye reads up to the end.
func (f *feed) bye() wire.Bye {
	f.t.Helper()
	for {
		if msg := f.next(); msg.Bye != nil {
			return *msg.Bye
		}
	}
}

func (f *feed) peers() []wire.SystemID {
	var ids []wire.SystemID
	for _, p := range f.Map.Peers {
		ids = append(ids, p.ID)
	}
	return ids
}

func automatic(tags ...wire.Tag) api.KeyCreate {
	return api.KeyCreate{Name: "k", Approval: "automatic", Tags: tags}
}

func direct(sender, receiver wire.Tag) wire.Policy {
	return wire.Policy{
		Name: "p", Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{sender}, ReceiverTags: []wire.Tag{receiver},
		ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 22, Hi: 22}}}},
	}
}

// hangUp closes the connections that no request uses.
func (w *world) hangUp() {
	for _, c := range w.clients {
		c.CloseIdleConnections()
	}
}
