package uplink

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"enclave/control/enrol"
	"enclave/passage"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// server is a control plane that answers as handle says.
type server struct {
	ca     *enrol.CA
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	dials  int
	mu     sync.Mutex // guards open
	open   int
}

func newServer(t *testing.T, handle http.HandlerFunc) *server {
	t.Helper()
	ca, err := enrol.NewCA(wire.NewOrgID(time.Now()), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := &server{ca: ca, conns: make(chan net.Conn), closed: make(chan struct{})}
	cert := s.source(t, svid.KindControl, "main")
	h := &http.Server{Handler: handle, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		TLSConfig: svid.ServerConfig(ca.Trust(), cert, svid.ClientOptionalExpired)}
	done := make(chan struct{})
	go func() { defer close(done); h.ServeTLS(s, "", "") }()
	t.Cleanup(func() { h.Close(); <-done })
	return s
}

func (s *server) source(t *testing.T, kind, name string) svid.Source {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := s.ca.Issue(kind, name, wire.IdentityKey(pub), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return func() (*tls.Certificate, error) { return &tls.Certificate{Certificate: chain, PrivateKey: key}, nil }
}

func (s *server) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}
func (s *server) Close() error   { s.once.Do(func() { close(s.closed) }); return nil }
func (s *server) Addr() net.Addr { return &net.TCPAddr{} }

// counted tells when the caller's side of a connection closes.
type counted struct {
	net.Conn
	s    *server
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.s.mu.Lock(); c.s.open--; c.s.mu.Unlock() })
	return c.Conn.Close()
}

func (s *server) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if addr != "control.test:443" {
		return nil, fmt.Errorf("dials %s", addr)
	}
	a, b := net.Pipe()
	select {
	case s.conns <- b:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials++
	s.open++
	return &counted{Conn: a, s: s}, nil
}

func (s *server) endpoint() Endpoint {
	return Endpoint{URL: "https://control.test/", Fingerprint: s.ca.Fingerprint(), Dial: s.dial}
}

func (s *server) client(t *testing.T) *Client {
	return New(s.endpoint(), s.ca.Trust(), s.source(t, svid.KindSystem, "aaaaa"))
}

func TestCheck(t *testing.T) {
	good := "sha256:" + strings.Repeat("0f", 32)
	for url, ok := range map[string]bool{
		"https://control.test": true, "https://control.test:8443": true, "https://control.test:8443/": true, "https://[::1]:8443": true,
		"http://control.test": false, "control.test:8443": false, "https://": false, "https://:8443": false, "": false, "https://a/b": false,
		"https://user@a": false, "https://a?x=1": false, "https://a#b": false, "https://a b": false, "ftp://a": false,
	} {
		if err := (Endpoint{URL: url, Fingerprint: good}).Check(); (err == nil) != ok || err != nil && !errors.Is(err, ErrBadEndpoint) {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, print := range []string{"", good[:70], good + "0", strings.ToUpper(good), "sha512:" + good[7:], strings.Replace(good, "f", "g", 1)} {
		if err := (Endpoint{URL: "https://a", Fingerprint: print}).Check(); !errors.Is(err, ErrBadEndpoint) {
			t.Errorf("fingerprint %q: %v", print, err)
		}
	}
}

// TestOneConnection: everything of one client travels on one connection, over HTTP/2,
// under the paths of the protocol, and Close drops it.
func TestOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var paths []string
		var mu sync.Mutex
		s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			paths = append(paths, fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.ProtoMajor))
			mu.Unlock()
			switch r.URL.Path {
			case wire.PathRenew:
				json.NewEncoder(w).Encode(wire.RenewResponse{SVID: [][]byte{{1}}})
			case wire.PathReport:
				w.WriteHeader(http.StatusNoContent)
			default:
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}
		})
		c := s.client(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Stream(ctx, time.Minute, 0, func(*wire.Message) error { return nil }) }()
		synctest.Wait()
		if err := c.Report(ctx, wire.Report{Applied: 1}); err != nil {
			t.Error(err)
		}
		if r, err := c.Renew(ctx, wire.RenewRequest{}); err != nil || len(r.SVID) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		want := "GET /agent/v1/stream 2, POST /agent/v1/report 2, POST /agent/v1/renew 2"
		if got := strings.Join(paths, ", "); got != want || s.dials != 1 {
			t.Errorf("%s over %d connections", got, s.dials)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the stream ended with %v", err)
		}
		c.Close()
		synctest.Wait()
		if s.open != 0 {
			t.Errorf("%d connections are open after Close", s.open)
		}
		s.Close()
	})
}

// TestCloseAtOnce: Close drops the connection also while the end of a stream is still
// on its way.
func TestCloseAtOnce(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintln(w, `{"bye":{"code":"restart","message":""}}`)
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
			c := s.client(t)
			enough := errors.New("enough")
			if err := c.Stream(t.Context(), time.Minute, 0, func(*wire.Message) error { return enough }); err != enough {
				t.Error(err)
			}
			c.Close()
			synctest.Wait()
			if s.open != 0 {
				t.Errorf("%d connections are open after Close", s.open)
			}
			s.Close()
		})
	}
}

func TestStream(t *testing.T) {
	long := strings.Repeat(" ", 200<<10)
	for name, tc := range map[string]struct {
		body string
		n    int // messages before the end
		says string
	}{
		"messages":      {`{"bye":{"code":"a","message":""}}` + "\n\n" + long + `{"bye":{"code":"b","message":""}}` + "\n", 2, "ended"},
		"garbage":       {`{"bye":{"code":"a","message":""}}` + "\n<html>\n", 1, "map stream"},
		"unknown field": {`{"shiny":1}` + "\n", 0, "shiny"},
		"twice":         {`{"bye":{"code":"a","code":"b","message":""}}` + "\n", 0, "given twice"},
		"deep":          {`{"map":` + strings.Repeat("[", 100) + "\n", 0, "nested"},
		"cut short":     {`{"bye":{"code":"a"`, 0, "too early"},
		"empty":         {"", 0, "ended"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, tc.body) })
				defer s.Close()
				c := s.client(t)
				defer c.Close()
				n := 0
				err := c.Stream(t.Context(), time.Minute, 0, func(*wire.Message) error { n++; return nil })
				if err == nil || n != tc.n || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%d messages, then %v", n, err)
				}
			})
		})
	}
}

// TestWatchdog: three beats without a word end a stream, an empty line is a word, and
// so do three beats without an answer at all.
func TestWatchdog(t *testing.T) {
	const beat = 10 * time.Second
	for name, tc := range map[string]struct {
		lines int // one a beat and a half
		head  bool
		after time.Duration
		want  error
	}{
		"silent":       {4, true, 3*15*time.Second + 30*time.Second, ErrSilent},
		"silent first": {0, true, 30 * time.Second, ErrSilent},
		"no answer":    {0, false, callTimeout, ErrUnreachable}, // sooner than three beats
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
					if tc.head {
						w.(http.Flusher).Flush()
					}
					for i := range tc.lines {
						if i > 0 {
							time.Sleep(beat * 3 / 2)
						}
						io.WriteString(w, "\n")
						w.(http.Flusher).Flush()
					}
					<-r.Context().Done()
				})
				defer s.Close()
				c := s.client(t)
				defer c.Close()
				began := time.Now()
				err := c.Stream(t.Context(), beat, 0, func(*wire.Message) error { return nil })
				if took := time.Since(began); !errors.Is(err, tc.want) || took != tc.after {
					t.Errorf("after %s: %v, want after %s: %v", took, err, tc.after, tc.want)
				}
			})
		})
	}
}

// TestRefusals: an answer that is a problem is told as that; anything else with its
// status and never with a code that means something.
func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		code   string
		says   string
	}{
		"problem":         {410, `{"status":410,"code":"revoked","title":"gone","detail":"this identity is gone"}`, "revoked", "this identity is gone"},
		"status of http":  {403, `{"status":200,"code":"forbidden","title":"no"}`, "forbidden", "no"},
		"a page":          {401, "<html>sign in</html>", api.CodeTryAgain, "not from an Enclave control plane"},
		"json of another": {410, `{"error":"gone"}`, api.CodeTryAgain, "not from an Enclave control plane"},
		"endless":         {500, strings.Repeat("x", 1<<20), api.CodeTryAgain, "500"},
		"a long story":    {403, `{"code":"forbidden","title":"no","detail":"` + strings.Repeat("x", 60<<10) + `"}`, "forbidden", "xxx"},
		"redirect":        {307, "", api.CodeTryAgain, "307"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Location", "https://elsewhere.test/")
					w.WriteHeader(tc.status)
					io.WriteString(w, tc.body)
				})
				defer s.Close()
				c := s.client(t)
				defer c.Close()
				for _, err := range []error{c.Report(t.Context(), wire.Report{}), c.Stream(t.Context(), time.Minute, 0, nil)} {
					var p *api.Problem
					if !errors.As(err, &p) || p.Status != tc.status || p.Code != tc.code || len(err.Error()) > 3<<10 || !strings.Contains(err.Error(), tc.says) {
						t.Errorf("%v: %+v", err, p)
					}
				}
			})
		})
	}
}

func TestAnswersHaveLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"now":"2026-01-01T00:00:00Z","svid":[],"roots":["`+strings.Repeat("A", wire.MaxRequestBody)+`"]}`)
		})
		defer s.Close()
		c := s.client(t)
		defer c.Close()
		if _, err := c.Renew(t.Context(), wire.RenewRequest{}); err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Error(err)
		}
	})
}

// TestHanging: a call that is not answered ends by itself.
func TestHanging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"now":`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		defer s.Close()
		c := s.client(t)
		defer c.Close()
		began := time.Now()
		if _, err := c.Renew(t.Context(), wire.RenewRequest{}); !errors.Is(err, ErrUnreachable) || time.Since(began) > callTimeout {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

// TestWhoIsBelieved: only the organisation's control plane, first by fingerprint and
// then by root; what is wrong about another is said, and is not "unreachable".
func TestWhoIsBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var roots [][]byte
		answer := func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == passage.Path { // with no word of who asks, and what for
				http.NotFound(w, r)
				return
			}
			asked++
			json.NewEncoder(w).Encode(wire.EnrolResponse{Roots: roots})
		}
		right, wrong := newServer(t, answer), newServer(t, answer)
		defer right.Close()
		defer wrong.Close()
		e := right.endpoint()
		e.Dial = wrong.dial
		_, first := Enrol(t.Context(), e, wire.EnrolRequest{Secret: "s"})
		c := New(e, right.ca.Trust(), right.source(t, svid.KindSystem, "aaaaa"))
		defer c.Close()
		for want, err := range map[error]error{svid.ErrFingerprint: first, svid.ErrWrongOrg: c.Report(t.Context(), wire.Report{})} {
			if !errors.Is(err, want) || errors.Is(err, ErrUnreachable) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		if asked != 0 {
			t.Error("a stranger was asked, and so told the secret")
		}
		// The right one, whose answer lacks the root that was pinned.
		if _, err := Enrol(t.Context(), right.endpoint(), wire.EnrolRequest{}); !errors.Is(err, svid.ErrFingerprint) || asked != 1 {
			t.Errorf("an answer without the root: %v", err)
		}
		// Nor is another believed beside it.
		roots = append(right.ca.Roots(), wrong.ca.Roots()...)
		if _, err := Enrol(t.Context(), right.endpoint(), wire.EnrolRequest{}); !errors.Is(err, svid.ErrFingerprint) {
			t.Errorf("an answer with a second root: %v", err)
		}
	})
}

func TestUnreachable(t *testing.T) {
	e := Endpoint{URL: "https://control.test", Fingerprint: "sha256:" + strings.Repeat("0", 64),
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route") }}
	if _, err := Enrol(t.Context(), e, wire.EnrolRequest{}); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "no route") {
		t.Error(err)
	}
}
