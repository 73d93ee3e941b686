package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// Token is a bearer token: a prefix by which scanners find it where it does not
// belong, and 200 random bits. It means nothing; what it may do is in the store,
// under its hash, so neither the file nor a copy of it gives a token away.
type Token string

const (
	tokenPrefix = "enctok_"
	tokenLen    = 40 // characters of 5 bits each
)

// NewToken makes a token.
func NewToken() Token { return Token(tokenPrefix + wire.NewID(tokenLen)) }

// Hash is what the store keeps. A plain hash is enough: there is no guessing 200 bits.
func (t Token) Hash() [32]byte { return sha256.Sum256([]byte(t)) }

// Principal is who a request comes from.
type Principal struct {
	Name   string
	Scopes []Scope

	hash  [32]byte  // of the token
	until time.Time // when the token expires; zero is never
	now   func() time.Time
}

// May reports whether the principal holds the scope.
func (p *Principal) May(s Scope) bool {
	return s == Public || s == Signed || slices.Contains(p.Scopes, All) || slices.Contains(p.Scopes, s)
}

type principalKey struct{}

// principal is who the guard found. It panics on a route that the guard let pass
// without a token: that is a mistake in the table, and must not become an action of
// nobody.
func principal(ctx context.Context) *Principal {
	return ctx.Value(principalKey{}).(*Principal)
}

// errNoToken is what a lookup returns for a token that is unknown, disabled or expired.
var errNoToken = errors.New("no such token")

// authenticator finds out who a request is from.
type authenticator struct {
	lookup   func(context.Context, [32]byte) (*Principal, error)
	now      func() time.Time // by which tokens end
	failures *throttle        // by address
	good     *recent          // hashes that worked, so that a neighbour's failures lock nobody out
}

// still returns an error unless the principal's token is good yet: what is answered for
// long is answered for no longer than that.
func (a *authenticator) still(ctx context.Context, who *Principal) error {
	now, err := a.lookup(ctx, who.hash)
	if err == nil && !slices.Equal(now.Scopes, who.Scopes) {
		err = errNoToken
	}
	return err
}

// identify returns the principal or the refusal to answer with.
func (a *authenticator) identify(r *http.Request) (*Principal, *api.Problem) {
	const hint = "pass a token: Authorization: Bearer enctok_..."
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token == "" || !strings.EqualFold(scheme, "Bearer") {
		return nil, NewProblem(http.StatusUnauthorized, api.CodeUnauthorised, "not signed in", hint)
	}
	now := time.Now()
	from := wire.SubscriberOf(r.RemoteAddr)
	hash := Token(token).Hash()
	if a.failures.spent(from, now) && !a.good.has(hash) {
		return nil, NewProblem(http.StatusTooManyRequests, api.CodeTryAgain, "too many wrong tokens from this address", "wait a minute")
	}
	who, err := a.lookup(r.Context(), hash)
	switch {
	case err == nil:
		a.good.add(hash)
		who.hash, who.now = hash, a.now
		return who, nil
	case errors.Is(err, errNoToken):
		a.good.remove(hash)
		a.failures.take(from, now)
		return nil, NewProblem(http.StatusUnauthorized, api.CodeUnauthorised, "this token is not valid", hint)
	default:
		return nil, NewProblem(http.StatusServiceUnavailable, api.CodeTryAgain, "the store does not answer", "")
	}
}
