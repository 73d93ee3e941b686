package admin

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slow is a client's connection whose deadlines can be seen.
type slow struct {
	*httptest.ResponseRecorder
	until time.Time
	reads time.Time
	late  bool // something was written without a deadline
}

func (s *slow) SetReadDeadline(t time.Time) error  { s.reads = t; return nil }
func (s *slow) SetWriteDeadline(t time.Time) error { s.until = t; return nil }
func (s *slow) Write(b []byte) (int, error) {
	s.late = s.late || !s.until.After(time.Now()) || s.until.After(time.Now().Add(writeTimeout))
	return s.ResponseRecorder.Write(b)
}

// TestEveryWriteHasADeadline looks at an answer, at one that takes long to think of,
// and at a refusal.
func TestEveryWriteHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &API{crossOrigin: http.NewCrossOriginProtection(), auth: &authenticator{failures: newThrottle(), good: newRecent()}}
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for range 2 {
				time.Sleep(time.Hour)
				if _, err := w.Write([]byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
		for _, r := range []*rule{{scope: Public}, {scope: All}} {
			w := &slow{ResponseRecorder: httptest.NewRecorder()}
			a.guarded(r, h).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			if w.late || w.Body.Len() == 0 {
				t.Errorf("scope %q: written without a deadline: %v, %d bytes", r.scope, w.late, w.Body.Len())
			}
		}
	})
}

// TestWhatTheGuardAsks of every request, before its handler sees it.
func TestWhatTheGuardAsks(t *testing.T) {
	const good = "enctok_good"
	silent := slog.New(slog.DiscardHandler)
	a := &API{crossOrigin: http.NewCrossOriginProtection(), log: silent, strangers: silent}
	a.auth = &authenticator{failures: newThrottle(), good: newRecent(), lookup: func(_ context.Context, hash [32]byte) (*Principal, error) {
		if hash != Token(good).Hash() {
			return nil, errNoToken
		}
		return &Principal{Name: "reader", Scopes: []Scope{Read}}, nil
	}}
	const json = "application/json"
	for name, tc := range map[string]struct {
		scope            Scope
		auth, kind, body string
		status           int
		challenged, seen bool
	}{
		"public, of nobody":     {scope: Public, status: 200, seen: true},
		"nobody":                {scope: Read, status: 401, challenged: true},
		"a token":               {scope: Read, auth: "bearer " + good, status: 200, seen: true},
		"a token alone":         {scope: Read, auth: good, status: 401, challenged: true},
		"another scheme":        {scope: Read, auth: "Basic " + good, status: 401, challenged: true},
		"no token of a scheme":  {scope: Read, auth: "Bearer ", status: 401, challenged: true},
		"a wrong token":         {scope: Read, auth: "Bearer enctok_wrong", status: 401, challenged: true},
		"another scope":         {scope: Keys, auth: "Bearer " + good, status: 403},
		"a body":                {scope: Read, auth: "Bearer " + good, kind: json + "; charset=utf-8", body: "{}", status: 200, seen: true},
		"as a form would":       {scope: Read, auth: "Bearer " + good, kind: "text/plain", body: "{}", status: 415},
		"of a kind not said":    {scope: Read, auth: "Bearer " + good, body: "{}", status: 415},
		"of a kind and another": {scope: Read, auth: "Bearer " + good, kind: json + ";;", body: "{}", status: 415},
		"two readings":          {scope: Read, auth: "Bearer " + good, kind: json, body: `{"a":1,"a":2}`, status: 400},
		"nobody's body":         {scope: Read, kind: "text/plain", body: "{}", status: 401, challenged: true},
	} {
		seen := false
		h := a.guarded(&rule{scope: tc.scope, id: "x"}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = true
			if b, err := io.ReadAll(r.Body); err != nil || string(b) != tc.body {
				t.Errorf("%s: the handler reads %q, %v", name, b, err)
			}
		}))
		r := httptest.NewRequest("POST", "/", strings.NewReader(tc.body))
		for header, v := range map[string]string{"Authorization": tc.auth, "Content-Type": tc.kind} {
			if v != "" {
				r.Header.Set(header, v)
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		got := w.Header()
		if w.Code != tc.status || seen != tc.seen || (got.Get("WWW-Authenticate") != "") != tc.challenged {
			t.Errorf("%s: %d, the handler is asked: %v, %v", name, w.Code, seen, got)
		}
		if got.Get("Cache-Control") != "no-store" || got.Get("X-Content-Type-Options") != "nosniff" || got.Get("Referrer-Policy") != "no-referrer" || got.Get(RequestHeader) == "" {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestABodyHasADeadline: whoever sends it byte by byte does not hold its handler; and how
// long the handler takes is its own affair.
func TestABodyHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &API{crossOrigin: http.NewCrossOriginProtection()}
		w := &slow{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest("POST", "/", nil)
		var read, handled bool
		r.Body = io.NopCloser(readerFunc(func([]byte) (int, error) {
			read = true
			if !w.reads.Equal(time.Now().Add(bodyTimeout)) {
				t.Errorf("the body is read until %s", w.reads)
			}
			return 0, io.EOF
		}))
		a.guarded(&rule{scope: Public}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			handled = true
			if !w.reads.IsZero() {
				t.Errorf("the handler reads until %s", w.reads)
			}
		})).ServeHTTP(w, r)
		if !read || !handled {
			t.Errorf("read: %t, handled: %t", read, handled)
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
