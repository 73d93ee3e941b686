package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"enclave/agent/filter"
	"enclave/agent/link"
	"enclave/control/enrol"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// me is the system whose agent is tested.
const me = wire.SystemID("aaaaa")

// org issues what a control plane would.
type org struct {
	t  testing.TB
	ca *enrol.CA
}

func newOrg(t testing.TB, now time.Time) *org {
	t.Helper()
	ca, err := enrol.NewCA(wire.NewOrgID(now), now)
	if err != nil {
		t.Fatal(err)
	}
	return &org{t, ca}
}

func (o *org) svid(kind, name string, key wire.IdentityKey, now time.Time) [][]byte {
	o.t.Helper()
	chain, err := o.ca.Issue(kind, name, key, now)
	if err != nil {
		o.t.Fatal(err)
	}
	return chain
}

// enrolled is the state of an agent that this organisation has enrolled.
func (o *org) enrolled(now time.Time) *state {
	s, err := newState()
	if err != nil {
		o.t.Fatal(err)
	}
	keys, err := s.keys()
	if err != nil {
		o.t.Fatal(err)
	}
	s.Control, s.Fingerprint = "https://control.test", o.ca.Fingerprint()
	s.System, s.Org, s.Roots = me, o.ca.Org(), o.ca.Roots()
	s.SVID = o.svid(svid.KindSystem, string(me), keys.Identity, now)
	return s
}

// peer is a system with keys of its own, which may start tcp/80 to us while the
// grants given count.
func (o *org) peer(id wire.SystemID, n byte, now time.Time, spans ...span) wire.Peer {
	s, err := newState()
	if err != nil {
		o.t.Fatal(err)
	}
	keys, err := s.keys()
	if err != nil {
		o.t.Fatal(err)
	}
	p := wire.Peer{
		ID: id, Name: "n" + string(id), IPv4: netip.AddrFrom4([4]byte{100, 64, 0, n}), IPv6: netip.AddrFrom16([16]byte{0xfd, 15: n}),
		WireGuard: keys.WireGuard, Disco: keys.Disco, KeySignature: keys.Signature,
		SVID: o.svid(svid.KindSystem, string(id), keys.Identity, now),
	}
	for _, s := range spans {
		p.Grants = append(p.Grants, wire.Grant{From: id, To: me, Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}},
			NotBefore: s.from, NotAfter: s.until, Policy: "p1"})
	}
	return p
}

// span is when a grant counts; zero ends are open.
type span struct{ from, until time.Time }

var always = span{}

// mapOf is a map for us.
func mapOf(revision wire.Revision, until time.Time, peers ...wire.Peer) wire.Map {
	return wire.Map{Revision: revision, ValidUntil: until, Peers: peers, Relays: []wire.Relay{}, Self: wire.Self{
		ID: me, Name: "me", Zone: "enclave", State: wire.Connected,
		IPv4: netip.MustParseAddr("100.64.0.1"), IPv6: netip.MustParseAddr("fd00::1")}}
}

func ids(peers []wire.Peer) string {
	var out []string
	for _, p := range peers {
		out = append(out, string(p.ID))
	}
	return strings.Join(out, " ")
}

// script is a control plane that does as it is told.
type script struct {
	org *org
	l   *pipes

	mu      sync.Mutex // guards what follows
	stream  func(say func(wire.Message), gone <-chan struct{})
	answers map[string]func(body []byte) (any, *api.Problem) // by path
	asked   map[string]int                                   // requests by path
	down    bool
	raw     func(w http.ResponseWriter, r *http.Request, body []byte) bool // comes first; false: it did not answer
}

func newScript(t testing.TB, o *org) *script {
	s := &script{org: o, l: &pipes{conns: make(chan net.Conn), closed: make(chan struct{})},
		answers: make(map[string]func([]byte) (any, *api.Problem)), asked: make(map[string]int)}
	cert := s.certificate()
	cfg := svid.ServerConfig(o.ca.Trust(), func() (*tls.Certificate, error) { return cert, nil }, svid.ClientOptionalExpired)
	srv := &http.Server{Handler: s, TLSConfig: cfg, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	ended := make(chan struct{})
	go func() { defer close(ended); srv.ServeTLS(s.l, "", "") }()
	t.Cleanup(func() { srv.Close(); <-ended })
	return s
}

// certificate lives for ten years: it is not control's that is tested here.
func (s *script) certificate() *tls.Certificate {
	st, err := newState()
	if err != nil {
		s.org.t.Fatal(err)
	}
	keys, _ := st.keys()
	chain, err := s.org.ca.WithLife(5*365*24*time.Hour).Issue(svid.KindControl, "main", keys.Identity, time.Now(), "control.test")
	if err != nil {
		s.org.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: privateKey(st)}
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked[r.URL.Path]++
	stream, answer, raw := s.stream, s.answers[r.URL.Path], s.raw
	s.mu.Unlock()
	var body []byte
	if r.Method == http.MethodPost {
		body = readAll(r)
	}
	if raw != nil && raw(w, r, body) {
		return
	}
	if answer != nil {
		v, p := answer(body)
		if p != nil {
			w.WriteHeader(p.Status)
			v = p
		} else if v == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if page, ok := v.(string); ok {
			w.Write([]byte(page))
			return
		}
		json.NewEncoder(w).Encode(v)
		return
	}
	switch r.URL.Path {
	case wire.PathReport:
		w.WriteHeader(http.StatusNoContent)
	case wire.PathStream:
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		if stream == nil {
			<-r.Context().Done()
			return
		}
		stream(func(m wire.Message) {
			b, _ := json.Marshal(m)
			w.Write(append(b, '\n'))
			w.(http.Flusher).Flush()
		}, r.Context().Done())
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (s *script) count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

func (s *script) on(path string, answer func(body []byte) (any, *api.Problem)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = answer
}

func (s *script) onStream(f func(say func(wire.Message), gone <-chan struct{})) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream = f
}

// cut makes control unreachable, or reachable again. Open connections stay.
func (s *script) cut(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// The script is the network of its agent, too; it has no UDP.
func (s *script) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	a, b := net.Pipe()
	select {
	case s.l.conns <- b:
		return a, nil
	case <-s.l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
func (s *script) ListenUDP(uint16) (link.PacketConn, error) { return nil, errors.New("no UDP here") }
func (s *script) LookupHost(context.Context, string) ([]netip.Addr, error) {
	return nil, errors.New("no names here")
}
func (s *script) Addrs() ([]netip.Addr, error) { return nil, nil }

// pipes is a listener of net.Pipe connections.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	mu     sync.Mutex // guards open
	open   []net.Conn
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open = append(p.open, c)
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// cut ends every open connection.
func (p *pipes) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		c.Close()
	}
	p.open = nil
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// recorder is a data plane that writes down what it is told. Its filter is a real one,
// through which each peer in force opens a connection again whenever it is looked at.
type recorder struct {
	mu     sync.Mutex
	peers  []wire.Peer
	causes []string
	fail   error
	filter *filter.Table // nil before the first apply
	looks  int           // calls of expire
}

func (r *recorder) apply(m *wire.Map, peers []wire.Peer, cause string, now, at time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.causes = append(r.causes, cause)
	if r.fail != nil {
		return r.fail
	}
	r.peers = slices.Clone(peers)
	now = unshifted(now)
	if r.filter == nil {
		r.filter = filter.New(filter.Config{Self: m.Self.ID, Addrs: []netip.Addr{m.Self.IPv4, m.Self.IPv6}})
		r.filter.SetClock(at, now)
	}
	var rules []filter.Peer
	for _, p := range peers {
		rules = append(rules, filter.Peer{ID: p.ID, Addrs: []netip.Addr{p.IPv4, p.IPv6}, Grants: p.Grants})
	}
	r.filter.Update(rules, cause, now)
	return nil
}

func (r *recorder) expire(now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.looks++; r.filter == nil {
		return time.Time{}
	}
	now = unshifted(now)
	for _, p := range r.peers {
		r.filter.In(dial(p.IPv4), now)
	}
	_, next := r.filter.Expire(now)
	return next
}

func (r *recorder) set(wall time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.filter != nil {
		r.filter.SetClock(wall, unshifted(wall))
	}
}

// unshifted is wall, or what the bubble's clock shows where wall was set back: a test that
// shifts a time.Time shifts its monotonic reading too, which would stand still.
func unshifted(wall time.Time) time.Time {
	if now := time.Now(); wall.Before(now) {
		return now
	}
	return wall
}

// passes reports whether the filter lets a peer connect to us.
func (r *recorder) passes(id wire.SystemID, wall time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := slices.IndexFunc(r.peers, func(p wire.Peer) bool { return p.ID == id })
	return at >= 0 && r.filter.In(dial(r.peers[at].IPv4), wall) == filter.Accept
}

// looked is how often the plane was asked to expire.
func (r *recorder) looked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.looks
}

// dial is the first segment of a connection to our tcp/80: IPv4 and TCP without options.
func dial(from netip.Addr) []byte {
	b := make([]byte, 40)
	b[0], b[3], b[8], b[9] = 0x45, 40, 64, 6
	copy(b[12:], from.AsSlice())
	copy(b[16:], []byte{100, 64, 0, 1})
	b[20], b[21], b[22], b[23] = 200, 0, 0, 80
	b[32], b[33] = 5<<4, 2 // SYN
	return b
}

func (r *recorder) now() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ids(r.peers)
}

// bench is an agent without a data plane, beside a scripted control plane.
type bench struct {
	*Agent
	*script
	plane  *recorder
	keeper *MemoryKeeper
	log    *strings.Builder
	cancel context.CancelFunc
	done   chan error
}

// newBench makes an agent from st, which is not started yet.
func newBench(t testing.TB, s *script, st *state) *bench {
	t.Helper()
	b := &bench{script: s, plane: new(recorder), keeper: new(MemoryKeeper), log: new(strings.Builder)}
	if st != nil {
		if err := st.save(b.keeper); err != nil {
			t.Fatal(err)
		}
	}
	b.make(t)
	return b
}

func (b *bench) make(t testing.TB) {
	t.Helper()
	var err error
	b.Agent, err = New(Config{Name: "me", Control: "https://control.test", Fingerprint: b.org.ca.Fingerprint(), Keeper: b.keeper,
		Network: b.script, Key: func() (string, error) { return "secret", nil },
		Logger: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
}

// start runs what Run runs, on the recorder.
func (b *bench) start(t testing.TB) {
	ctx, cancel := context.WithCancel(t.Context())
	b.cancel, b.done, b.plane.filter = cancel, make(chan error, 1), nil
	go func() {
		err := b.enrol(ctx)
		if err == nil {
			g, ctx := errgroup.WithContext(ctx)
			b.work(ctx, g, b.plane)
			err = g.Wait()
		}
		b.flush()
		b.done <- err
	}()
}

// stop ends it and makes a new agent from what was kept.
func (b *bench) stop(t testing.TB) {
	b.cancel()
	<-b.done
	b.make(t)
}

// stored is the state as it was kept.
func (b *bench) stored(t testing.TB) *state {
	raw, err := b.keeper.Load()
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseState(raw)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
