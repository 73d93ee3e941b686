package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// TestWhoGuessesTokensWaits, and nobody else does: neither another address nor who has used
// a good token from the same one, for as long as that is good; and a store that fails is
// nobody's guess.
func TestWhoGuessesTokensWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, down, good := 0, false, map[[32]byte]bool{Token("good").Hash(): true, Token("later").Hash(): true}
		a := &authenticator{failures: newThrottle(), good: newRecent(), lookup: func(_ context.Context, hash [32]byte) (*Principal, error) {
			asked++
			switch {
			case down:
				return nil, errors.New("no disk")
			case !good[hash]:
				return nil, errNoToken
			}
			return &Principal{Name: "n", Scopes: []Scope{Read}}, nil
		}}
		ask := func(from, token string, status int, looked bool) {
			t.Helper()
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = from
			r.Header.Set("Authorization", "Bearer "+token)
			asked = 0
			who, p := a.identify(r)
			got := 200
			if p != nil {
				got = p.Status
			}
			if got != status || (who != nil) != (status == 200) || (asked > 0) != looked {
				t.Errorf("%s with %s: %d, looked up: %t; want %d, %t", from, token, got, asked > 0, status, looked)
			}
			if who != nil && who.hash != Token(token).Hash() {
				t.Errorf("%s: it is not known by which token", token)
			}
		}
		down = true
		for range failureBurst + 1 {
			ask("192.0.2.1:1", "good", 503, true)
		}
		down = false
		ask("192.0.2.1:1", "good", 200, true)
		for i := range failureBurst {
			ask(fmt.Sprintf("192.0.2.1:%d", i+1), fmt.Sprint("wrong", i), 401, true) // from any port
		}
		ask("192.0.2.1:1", "wrong", 429, false)
		ask("192.0.2.1:1", "later", 429, false) // it was not seen to be good
		ask("192.0.2.1:1", "good", 200, true)
		ask("192.0.2.2:1", "wrong", 401, true)
		ask("192.0.2.2:1", "later", 200, true)
		ask("192.0.2.1:1", "later", 200, true)
		delete(good, Token("good").Hash())
		ask("192.0.2.1:1", "good", 401, true)
		ask("192.0.2.1:1", "good", 429, false) // no more than a guess now
		time.Sleep(2 * failureEvery)
		ask("192.0.2.1:1", "wrong", 401, true)
		for range failureBurst {
			ask("a pipe", "wrong", 401, true) // without a port
		}
		ask("a pipe", "wrong", 429, false)
	})
}

// TestWhoIsAnsweredForLong is asked again what it may: a token that has lost a scope, or
// has ended, is answered no longer.
func TestWhoIsAnsweredForLong(t *testing.T) {
	who := &Principal{Scopes: []Scope{Read, Keys}, hash: [32]byte{7}}
	down := errors.New("no disk")
	for name, c := range map[string]struct {
		now  []Scope
		err  error
		want error
	}{
		"the same": {now: []Scope{Read, Keys}}, "less": {now: []Scope{Read}, want: errNoToken}, "other": {now: []Scope{Read, All}, want: errNoToken},
		"ended": {err: errNoToken, want: errNoToken}, "not known": {err: down, want: down},
	} {
		a := &authenticator{lookup: func(_ context.Context, hash [32]byte) (*Principal, error) {
			if hash != who.hash {
				t.Errorf("%s: asked for another token", name)
			}
			if c.err != nil {
				return nil, c.err
			}
			return &Principal{Scopes: c.now}, nil
		}}
		if err := a.still(t.Context(), who); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestARecentTokenIsForgotten when there are too many, and the newest is there.
func TestARecentTokenIsForgotten(t *testing.T) {
	r := newRecent()
	for i := range maxRecentGood + 1 {
		r.add([32]byte{byte(i), byte(i >> 8), 1})
	}
	if newest := ([32]byte{byte(maxRecentGood & 0xff), byte(maxRecentGood >> 8), 1}); len(r.hashes) > maxRecentGood || !r.has(newest) {
		t.Errorf("%d hashes, the newest: %t", len(r.hashes), r.has(newest))
	}
}

// TestEveryErrorOfTheStoreHasAnAnswer, with a code for programs; what has none is our own
// and is not told.
func TestEveryErrorOfTheStoreHasAnAnswer(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{store.ErrNotFound, 404, api.CodeNotFound}, {store.ErrFull, 507, api.CodeDiskFull}, {store.ErrDamaged, 503, api.CodeDamaged},
		{store.ErrDisk, 503, api.CodeDiskFailed}, {store.ErrBusy, 409, api.CodeTryAgain}, {store.ErrClosed, 503, api.CodeSealed},
		{store.ErrStale, 412, api.CodeStale}, {store.ErrNotExported, 409, api.CodeConflict}, {store.ErrConflict, 409, api.CodeConflict},
		{&store.AmbiguousError{}, 409, api.CodeAmbiguous}, {&store.SetError{Problems: []wire.Problem{{Path: "x"}}}, 422, api.CodeInvalid},
		{wire.ErrBadTag, 422, api.CodeInvalid}, {wire.ErrBadName, 422, api.CodeInvalid}, {wire.ErrBadSystem, 422, api.CodeInvalid},
		{context.Canceled, 503, api.CodeTryAgain}, {context.DeadlineExceeded, 503, api.CodeTryAgain},
		{NewProblem(418, "ready", "", ""), 418, "ready"}, {fail(418, "already", "", ""), 418, "already"}, {invalid(), 422, api.CodeInvalid},
	} {
		err := refuse(fmt.Errorf("change: %w", c.err))
		var p *problem
		if !errors.As(err, &p) || p.GetStatus() != c.status || p.Code != c.code {
			t.Errorf("%v: %v, want %d %s", c.err, err, c.status, c.code)
		}
	}
	if own := errors.New("open /var/lib/enclave: no"); refuse(own) != own || refuse(nil) != nil {
		t.Error("an error of our own is answered")
	}
}

// TestWhichVersionAChangeIsOf: none is any, and what is no version is not taken for none.
func TestWhichVersionAChangeIsOf(t *testing.T) {
	ctx := context.WithValue(t.Context(), principalKey{}, &Principal{Name: "ci", now: time.Now})
	ctx = context.WithValue(ctx, requestKey{}, "r1")
	for header, want := range map[string]wire.Revision{"": 0, "*": 0, `"42"`: 42, `W/"42"`: 42, "42": 42} {
		c, err := change(ctx, header)
		if err != nil || c.IfMatch != want || c.By != "token:ci" || c.Request != "r1" || time.Since(c.At) > time.Hour {
			t.Errorf("%q: %+v, %v", header, c, err)
		}
	}
	for _, header := range []string{`"0"`, "0", `""`, "x", "-1", `"42", "43"`, "99999999999999999999"} {
		if c, err := change(ctx, header); err == nil {
			t.Errorf("%q: taken as version %d", header, c.IfMatch)
		}
	}
}

// TestPagesNeitherRepeatNorSkip, whatever the limit.
func TestPagesNeitherRepeatNorSkip(t *testing.T) {
	all := []string{"a", "b", "c", "d", "e"}
	same := func(s *string) string { return *s }
	for limit := 1; limit <= len(all)+1; limit++ {
		var got []string
		pages, p := 0, Paging{Limit: limit}
		for {
			one := page(all, p, same, same)
			got, pages = append(got, one.Items...), pages+1
			if len(one.Items) > limit || one.Items == nil {
				t.Fatalf("a page of %d: %q", limit, one.Items)
			}
			if p.After = one.Next; p.After == "" {
				break
			}
		}
		if !slices.Equal(got, all) || pages != (len(all)+limit-1)/limit {
			t.Errorf("pages of %d: %q in %d", limit, got, pages)
		}
	}
}
