package session

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"enclave/sandbox"
	"enclave/sandbox/tools"
)

const secondToken = "alice-second-0123456789"

// gate is a server whose token file a test writes.
type gate struct {
	*Server
	t     *testing.T
	file  string
	audit *rows
	log   *rows
	said  chan os.Signal
	wait  sync.WaitGroup
}

// guarded starts one in a bubble.
func guarded(t *testing.T, text string, sink tools.Sink) *gate {
	g := gateOf(t, text, sink)
	ctx, stop := context.WithCancel(context.Background())
	g.wait.Go(func() { g.keepTokens(ctx) })
	t.Cleanup(func() { stop(); g.wait.Wait() })
	return g
}

// gateOf makes one. Its runs hang until they are cancelled.
func gateOf(t *testing.T, text string, sink tools.Sink) *gate {
	g := &gate{t: t, file: filepath.Join(t.TempDir(), "tokens"), audit: &rows{}, log: &rows{}, said: make(chan os.Signal, 1)}
	if sink == nil {
		sink = g.audit
	}
	g.write(text)
	tok, err := ReadTokens(g.file)
	if err != nil {
		t.Fatal(err)
	}
	hang := func(ctx context.Context, _ sandbox.Spec, b sandbox.Broker) sandbox.Result {
		_, err := b.CallTool(ctx, sandbox.Call{ID: 1, Name: "slow"})
		return sandbox.Result{Error: err}
	}
	g.Server = server(t, hang, func(c *Config) {
		c.Host.Audit, c.Logger = sink, slog.New(slog.NewTextHandler(g.log, nil))
		c.Tokens, c.TokenFile, c.Again = tok, g.file, g.said
		c.Limits.Lifetime, c.Level = 10*time.Minute, sandbox.Permissive
	})
	return g
}

func (g *gate) write(text string) {
	g.t.Helper()
	if err := os.WriteFile(g.file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// looks lets so many looks at the file go by.
func (g *gate) looks(n int) {
	time.Sleep(time.Duration(n) * tokenLook)
	synctest.Wait()
}

func (g *gate) start(token string) (in Info) {
	g.t.Helper()
	w := do(g.t, g.Handler(), "POST", "/sessions", token, `{"code":"1","level":"PERMISSIVE"}`, "Accept", "application/json")
	if err := json.Unmarshal(w.Body.Bytes(), &in); err != nil || w.Code != 201 {
		g.t.Fatalf("%d %s", w.Code, w.Body)
	}
	return in
}

// follow reads a stream until it ends.
func (g *gate) follow(token, path string) <-chan *httptest.ResponseRecorder {
	out := make(chan *httptest.ResponseRecorder, 1)
	go func() { out <- do(g.t, g.Handler(), "GET", path, token, "") }()
	return out
}

func (g *gate) status(token, path string) int {
	return do(g.t, g.Handler(), "GET", path, token, "").Code
}

func last(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	list := eventsOf(t, w.Body.String())
	e := list[len(list)-1]
	return e.Type + " " + string(e.Payload)
}

func TestARemovedTokenEndsWhatItOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		others := secondToken + " alice@lab\n" + bobToken + " bob@lab\n"
		g := guarded(t, aliceToken+" alice@lab\n"+others, nil)
		first, second, bobs := g.start(aliceToken), g.start(secondToken), g.start(bobToken)
		own := g.follow(aliceToken, first.StreamURL)
		beside := g.follow(secondToken, first.StreamURL)
		visit := g.follow(aliceToken, second.StreamURL)
		synctest.Wait()
		g.write(others)
		g.looks(2)
		for what, w := range map[string]*httptest.ResponseRecorder{"its own": <-own, "another token's": <-visit} {
			if got := last(t, w); !strings.HasPrefix(got, `error {"code":"TOKEN_REMOVED","message":"the token`) {
				t.Errorf("%s: %s", what, got)
			}
		}
		if got := last(t, <-beside); !strings.HasPrefix(got, "final ") || !strings.Contains(got, `"CANCELLED"`) || !strings.Contains(got, "the token that started it") {
			t.Errorf("what the user's other token reads of it: %s", got)
		}
		for _, tc := range []struct {
			token, path string
			want        int
		}{{aliceToken, "/sessions", 401}, {aliceToken, second.StreamURL, 401}, {secondToken, "/tools", 200}, {bobToken, "/tools", 200}} {
			if got := g.status(tc.token, tc.path); got != tc.want {
				t.Errorf("%s with %.10s: %d", tc.path, tc.token, got)
			}
		}
		for token, id := range map[string]string{secondToken: second.ID, bobToken: bobs.ID} {
			if w := do(t, g.Handler(), "GET", "/sessions/"+id, token, ""); !strings.Contains(w.Body.String(), "waiting_for_tool") {
				t.Errorf("the session of another token: %s", w.Body)
			}
		}
		records := g.audit.String()
		if !strings.Contains(records, `"action":"tokens.change","outcome":"ok","tokens":{"held":2,"removed":1,"removed_of":["alice@lab"]}`) ||
			!strings.Contains(records, `"action":"run.end","run":"`+first.Run) || strings.Contains(records, `"action":"run.end","run":"`+second.Run) {
			t.Errorf("%s", records)
		}
		if all := records + g.log.String(); strings.Contains(all, aliceToken) || strings.Contains(all, secondToken) || !strings.Contains(g.log.String(), "alice@lab") {
			t.Errorf("%s", all)
		}
		do(t, g.Handler(), "DELETE", "/sessions/"+second.ID, secondToken, "")
		do(t, g.Handler(), "DELETE", "/sessions/"+bobs.ID, bobToken, "")
		synctest.Wait()
	})
}

func TestATokenFileThatCannotBeTaken(t *testing.T) {
	const both = aliceToken + " alice@lab\n" + bobToken + " bob@lab\n"
	synctest.Test(t, func(t *testing.T) {
		g := guarded(t, both, nil)
		g.start(aliceToken)
		kept := func(what string) {
			t.Helper()
			if a, b := g.status(aliceToken, "/tools"), g.status(bobToken, "/tools"); a != 200 || b != 200 {
				t.Errorf("%s: alice %d, bob %d", what, a, b)
			}
			if w := do(t, g.Handler(), "GET", "/sessions", aliceToken, ""); !strings.Contains(w.Body.String(), "waiting_for_tool") {
				t.Errorf("%s: %s", what, w.Body)
			}
		}
		g.write("") // an editor has begun to write
		g.looks(1)
		g.write(both[:len(aliceToken)+6]) // and is half done
		g.looks(1)
		g.write(both)
		g.looks(3)
		kept("while it is written")
		if records := g.audit.String(); strings.Contains(records, "tokens.change") {
			t.Errorf("%s", records)
		}
		for i, text := range []string{"this is no token file at all\n", both + aliceToken + " alice@lab\n"} {
			g.write(text)
			g.looks(2)
			kept(text)
			if n := strings.Count(g.audit.String(), `"outcome":"TOKENS_KEPT","tokens":{"held":2}`); n != i+1 {
				t.Errorf("%q: %d records of it", text, n)
			}
		}
		os.Remove(g.file)
		g.looks(2)
		kept("gone")
		before := strings.Count(g.log.String(), "level=ERROR")
		g.looks(int(2 * lookAgain / tokenLook))
		if n := strings.Count(g.log.String(), "level=ERROR") - before; n != 2 {
			t.Errorf("told %d times in two minutes", n)
		}
		// Others can read it: bob is out all the same, and nobody new is in.
		g.write(aliceToken + " alice@lab\n" + secondToken + " carol@lab\n")
		os.Chmod(g.file, 0o644)
		g.looks(2)
		if a, b, c := g.status(aliceToken, "/tools"), g.status(bobToken, "/tools"), g.status(secondToken, "/tools"); a != 200 || b != 401 || c != 401 {
			t.Errorf("with an open file: alice %d, bob %d, carol %d", a, b, c)
		}
		os.Chmod(g.file, 0o600)
		g.looks(2)
		if c := g.status(secondToken, "/tools"); c != 200 {
			t.Errorf("closed again: carol %d", c)
		}
		g.write("# nobody\n")
		g.looks(2)
		if a, c := g.status(aliceToken, "/tools"), g.status(secondToken, "/tools"); a != 401 || c != 401 {
			t.Errorf("an empty file: alice %d, carol %d", a, c)
		}
		g.write(both)
		g.said <- os.Interrupt // what comes by it does not matter
		synctest.Wait()
		if a := g.status(aliceToken, "/tools"); a != 200 {
			t.Errorf("at a signal: %d", a)
		}
	})
}

// moody keeps records when it is told so.
type moody struct{ refuse atomic.Bool }

func (m *moody) Append(context.Context, tools.Record) error {
	if m.refuse.Load() {
		return errors.New("the disk is full")
	}
	return nil
}

func TestATokenIsGivenWithItsRecordAndTakenInAnyCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := new(moody)
		sink.refuse.Store(true)
		g := guarded(t, aliceToken+" alice\n", sink)
		g.write(bobToken + " bob\n")
		g.looks(3)
		if a, b := g.status(aliceToken, "/tools"), g.status(bobToken, "/tools"); a != 401 || b != 401 {
			t.Errorf("without a record: alice %d, bob %d", a, b)
		}
		sink.refuse.Store(false)
		g.looks(1)
		if b := g.status(bobToken, "/tools"); b != 200 {
			t.Errorf("with one: bob %d", b)
		}
	})
}

// stuck keeps no record until it is let go.
type stuck struct{ let chan struct{} }

func (s *stuck) Append(context.Context, tools.Record) error { <-s.let; return nil }

// TestATokenIsTakenBeforeItsRecord: whoever holds up the records holds up what is given, and
// nothing that is taken away.
func TestATokenIsTakenBeforeItsRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &stuck{make(chan struct{})}
		g := guarded(t, aliceToken+" alice\n", sink)
		g.write(bobToken + " bob\n")
		g.looks(2)
		if a, b := g.status(aliceToken, "/tools"), g.status(bobToken, "/tools"); a != 401 || b != 401 {
			t.Errorf("before the record: alice %d, bob %d", a, b)
		}
		close(sink.let)
		synctest.Wait()
		if b := g.status(bobToken, "/tools"); b != 200 {
			t.Errorf("behind it: bob %d", b)
		}
	})
}

func TestATokenEndsAtItsInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(d time.Duration) string { return " alice " + time.Now().Add(d).Format(time.RFC3339) + "\n" }
		until := at(5 * time.Minute)
		g := guarded(t, aliceToken+at(10*time.Second)+secondToken+until, nil)
		in := g.start(aliceToken)
		stream := g.follow(aliceToken, in.StreamURL)
		g.looks(7)
		g.write(aliceToken + at(8*time.Second) + secondToken + until) // longer, in time
		g.looks(2)
		if g.status(aliceToken, "/tools") != 200 || len(stream) > 0 {
			t.Error("what was prolonged ended")
		}
		g.looks(8)
		if got := last(t, <-stream); !strings.Contains(got, "TOKEN_REMOVED") || g.status(aliceToken, "/tools") != 401 || g.status(secondToken, "/tools") != 200 {
			t.Errorf("at its instant: %s", got)
		}
		for _, want := range []string{`"tokens":{"held":2,"prolonged":1,"added_of":["alice@default"]}`, `"outcome":"TOKENS_EXPIRED","tokens":{"held":1,"removed":1`} {
			if records := g.audit.String(); strings.Count(records, want) != 1 {
				t.Errorf("no %s in %s", want, records)
			}
		}
	})
}

// TestATokenThatGoesWhileItsRequestComes removes it between the header and the body.
func TestATokenThatGoesWhileItsRequestComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guarded(t, aliceToken+" alice\n"+bobToken+" bob\n", nil)
		body, rest := io.Pipe()
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/sessions", body)
		r.Header.Set("Authorization", "Bearer "+aliceToken)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		ended := make(chan bool)
		go func() { g.Handler().ServeHTTP(w, r); close(ended) }()
		io.WriteString(rest, `{"code":`)
		g.write(bobToken + " bob\n")
		g.looks(2)
		io.WriteString(rest, `"1"}`)
		rest.Close()
		<-ended
		if w.Code != 401 || len(g.sessions) > 0 {
			t.Errorf("%d %s, %d sessions", w.Code, w.Body, len(g.sessions))
		}
	})
}

// TestRunsThatWaitDoNotBegin: those that end make room for those behind them, whose token
// is the same.
func TestRunsThatWaitDoNotBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guarded(t, aliceToken+" alice\n", nil)
		for range 16 {
			g.start(aliceToken)
		}
		synctest.Wait()
		begun := strings.Count(g.audit.String(), `"run.start"`)
		g.write("")
		g.looks(2)
		if n := strings.Count(g.audit.String(), `"run.start"`); begun != Defaults().TenantRuns || n != begun {
			t.Errorf("%d runs had begun, then %d", begun, n)
		}
		for _, l := range g.sessions {
			if l.state != Cancelled {
				t.Errorf("%s: %s", l.id, l.state)
			}
		}
	})
}

// TestATokenOfSomebodyElse: the same token under another name is another token.
func TestATokenOfSomebodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := guarded(t, aliceToken+" alice@lab\n", nil)
		stream := g.follow(aliceToken, g.start(aliceToken).StreamURL)
		g.write(aliceToken + " bob@lab\n")
		g.looks(2)
		if got := last(t, <-stream); !strings.Contains(got, "TOKEN_REMOVED") {
			t.Error(got)
		}
		if w := do(t, g.Handler(), "GET", "/tools", aliceToken, ""); !strings.Contains(w.Body.String(), "bobs") {
			t.Errorf("%s", w.Body)
		}
		if w := do(t, g.Handler(), "GET", "/sessions", aliceToken, ""); strings.TrimSpace(w.Body.String()) != `{"sessions":[]}` {
			t.Errorf("%s", w.Body)
		}
	})
}

// TestWithoutARecordNobodyGetsMore: a set that may only shrink has no new token in it, and
// none that ends later than it did; one that may grow names all of them.
func TestWithoutARecordNobodyGetsMore(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	file := func(lines ...string) []token {
		t.Helper()
		tok, err := ParseTokens([]byte(strings.Join(lines, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		return tok.list
	}
	const noon, one, two = " 2026-03-01T12:00:00Z", " 2026-03-01T13:00:00Z", " 2026-03-01T14:00:00Z"
	had, _, _ := bearers(nil).replaced(file(aliceToken+" alice"+one, bobToken+" bob", carolToken+" carol"+noon), now, false)
	for _, tc := range []struct {
		line       string
		less       bool
		until      string // of alice; empty is gone, "-" for ever
		held       int
		prolonged  int
		addedNames string
	}{
		{aliceToken + " alice" + one, true, one, 2, 0, ""},
		{aliceToken + " alice" + two, true, one, 2, 0, ""},
		{aliceToken + " alice", true, one, 2, 0, ""},
		{aliceToken + " alice" + two, false, two, 2, 1, "alice@default"},
		{aliceToken + " alice", false, "-", 2, 1, "alice@default"},
		{aliceToken + " alice" + noon, false, "", 1, 0, ""},
		{aliceToken + " alice" + one + "\n" + twinToken + " twin", true, one, 2, 0, ""},
		{aliceToken + " alice" + one + "\n" + twinToken + " twin", false, one, 3, 0, "twin@default"},
		{aliceToken + " mallory", true, "", 1, 0, ""}, // somebody else's
	} {
		next, gone, change := had.replaced(file(tc.line, bobToken+" bob"), now, tc.less)
		until, added, prolonged := "", "", 0
		for _, b := range next {
			if b.who.User == "alice" {
				if until = "-"; !b.until.IsZero() {
					until = " " + b.until.Format(time.RFC3339)
				}
			}
		}
		if change != nil {
			added, prolonged = strings.Join(change.AddedOf, ","), change.Prolonged
		}
		if until != tc.until || len(next) != tc.held || added != tc.addedNames || prolonged != tc.prolonged || (len(gone) > 0) != (until == "") {
			t.Errorf("%q, less %v: until %q, %d held, %d gone, added %q, %d prolonged", tc.line, tc.less, until, len(next), len(gone), added, prolonged)
		}
	}
	for at, want := range map[time.Duration]bool{time.Hour - 1: true, time.Hour: false} {
		if got := had.whose("Bearer "+aliceToken, now.Add(at)); (got != nil) != want {
			t.Errorf("after %s: %v", at, got)
		}
	}
}
