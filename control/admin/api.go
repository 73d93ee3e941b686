package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// Config is what the API is made of.
type Config struct {
	Store   *store.Store
	Control Control
	Answers Answers
	Vault   Vault
	Backups func() *api.BackupStatus // of the schedule; may be nil
	Logger  *slog.Logger
	Version string // of the program
}

// API is the administration API, an http.Handler.
type API struct {
	store       *store.Store
	control     Control
	answers     Answers
	vault       Vault
	backups     func() *api.BackupStatus
	log         *slog.Logger
	strangers   *slog.Logger // what others cause while the state is locked
	version     string
	auth        *authenticator
	denials     *denials
	crossOrigin *http.CrossOriginProtection
	mux         *mux
	huma        huma.API
}

// New makes the API. It fails when a route and the authorisation table disagree.
func New(c Config) (*API, error) { return build(c, table[:]) }

func build(c Config, rules []rule) (*API, error) {
	a := &API{store: c.Store, control: c.Control, answers: c.Answers, vault: c.Vault, backups: c.Backups, log: c.Logger, version: c.Version, crossOrigin: http.NewCrossOriginProtection()}
	a.auth = &authenticator{lookup: a.lookup, now: c.Store.Now, failures: newThrottle(), good: newRecent()}
	a.denials = newDenials(c.Store, c.Logger)
	a.mux = newMux(rules, a.guarded)
	a.huma = humago.New(a.mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "enclave administration API", Version: "1",
				Description: "Everything that an administrator can do. Every change makes a revision; GET /api/v1/revision?applied=N waits until the systems that it affects have followed.",
			},
			Components: &huma.Components{
				Schemas:         newRegistry(),
				SecuritySchemes: map[string]*huma.SecurityScheme{"bearer": {Type: "http", Scheme: "bearer"}},
			},
		},
		Formats:       map[string]huma.Format{"application/json": strictFormat(), "json": strictFormat()},
		DefaultFormat: "application/json",
		// One program's mistake is easier found when it is told that it has made one.
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{a.transform},
	})
	a.routeSystems()
	a.routeTags()
	a.routeKeys()
	a.routePolicies()
	a.routePolicySet()
	a.routeTrust()
	a.routeAnswers()
	a.routeDNS()
	a.routeTokens()
	a.routeRelays()
	a.routeStatus()
	a.routeSeal()
	a.routeBackup()
	a.routeActivity()
	a.routeAudit()
	if err := a.serveDocs(a.mux, a.huma.OpenAPI()); err != nil {
		return nil, err
	}
	if err := a.mux.check(); err != nil {
		return nil, err
	}
	return a, nil
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// route registers the handler of an operation. What else is to know of it, its method,
// path, scope and summary, is in the table; an ID without an entry is refused.
func route[I, O any](a *API, id string, handle func(context.Context, *I) (*O, error)) {
	for _, r := range a.mux.rules {
		if r.id != id {
			continue
		}
		op := huma.Operation{
			OperationID: id, Method: r.method, Path: Prefix + r.path, Summary: r.summary,
			Tags:         []string{strings.SplitN(id, "-", 2)[0]},
			MaxBodyBytes: r.limit() + 1, // the guard has the limit; huma refuses at its own
			// A whole set is read by the parser that names every mistake, of shape and meaning.
			SkipValidateBody: r.id == "policyset-apply",
			// The guard has read the body already, under the server's own deadline.
			BodyReadTimeout: -1,
		}
		if r.scope != Public {
			// OpenAPI 3.1 lets a bearer scheme name the roles that an operation takes.
			op.Security = []map[string][]string{{"bearer": {string(r.scope)}}}
		}
		huma.Register(a.huma, op, handle)
		return
	}
	a.mux.orphan = append(a.mux.orphan, id)
}

// strictFormat is JSON that knows no unknown fields; duplicates the guard has refused.
func strictFormat() huma.Format {
	return huma.Format{
		Marshal: huma.DefaultJSONFormat.Marshal,
		Unmarshal: func(b []byte, v any) error {
			d := json.NewDecoder(bytes.NewReader(b))
			d.DisallowUnknownFields()
			return d.Decode(v)
		},
	}
}

// transform turns huma's own refusals into problems of ours.
func (a *API) transform(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := NewProblem(m.Status, codeFor(m.Status), m.Detail, "")
	if m.Status >= 500 {
		// What an error says of our insides belongs in the log and not in an answer.
		a.log.Error("api request failed", "operation", ctx.Operation().OperationID, "detail", m.Detail, "errors", errorTexts(m.Errors))
		p.Detail = "something went wrong here; the log has it"
		return p, nil
	}
	for _, e := range m.Errors {
		at := strings.TrimPrefix(strings.TrimPrefix(e.Location, "body"), ".")
		p.Problems = append(p.Problems, wire.Problem{Path: at, Message: e.Message})
	}
	return p, nil
}

func errorTexts(list []*huma.ErrorDetail) []string {
	texts := make([]string, len(list))
	for i, e := range list {
		texts[i] = e.Error()
	}
	return texts
}

// refuse gives errors of the store their answer.
func refuse(err error) error {
	var already *problem
	var ready *api.Problem
	var mistakes *store.SetError
	var ambiguous *store.AmbiguousError
	switch {
	case err == nil || errors.As(err, &already):
		return err
	case errors.As(err, &ready):
		return &problem{*ready}
	case errors.As(err, &mistakes):
		return invalid(mistakes.Problems...)
	case errors.As(err, &ambiguous):
		return fail(http.StatusConflict, api.CodeAmbiguous, ambiguous.Error(), "use one of the IDs")
	case errors.Is(err, store.ErrNotFound):
		return fail(http.StatusNotFound, api.CodeNotFound, err.Error(), "")
	case errors.Is(err, store.ErrFull):
		return fail(http.StatusInsufficientStorage, api.CodeDiskFull, "the disk of the control plane is full: nothing was changed", "make room there and repeat the change")
	case errors.Is(err, store.ErrDamaged):
		return fail(http.StatusServiceUnavailable, api.CodeDamaged, "the state of the control plane is damaged, and it stops", "restore a backup")
	case errors.Is(err, store.ErrDisk):
		return fail(http.StatusServiceUnavailable, api.CodeDiskFailed, "the disk of the control plane failed, and it may have to stop", "")
	case errors.Is(err, store.ErrBusy):
		return fail(http.StatusConflict, api.CodeTryAgain, err.Error(), "")
	case errors.Is(err, store.ErrClosed):
		return fail(http.StatusServiceUnavailable, api.CodeSealed, sealedText, sealedHint)
	case errors.Is(err, store.ErrStale):
		return fail(http.StatusPreconditionFailed, api.CodeStale, err.Error(), "read it again and repeat the change")
	case errors.Is(err, store.ErrNotExported):
		return fail(http.StatusConflict, api.CodeConflict, err.Error(), "export again, and archive what that export has")
	case errors.Is(err, store.ErrConflict):
		// What is not possible, and why, stands before the class of the error.
		return fail(http.StatusConflict, api.CodeConflict, strings.TrimSuffix(err.Error(), ": "+store.ErrConflict.Error()), "")
	case errors.Is(err, wire.ErrBadTag), errors.Is(err, wire.ErrBadName), errors.Is(err, wire.ErrBadSystem):
		return fail(http.StatusUnprocessableEntity, api.CodeInvalid, err.Error(), "")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fail(http.StatusServiceUnavailable, api.CodeTryAgain, "the request ended before the change could be made", "")
	}
	return err // huma answers 500, and transform logs it
}

// change is the store.Change of a request. The version comes from If-Match.
func change(ctx context.Context, ifMatch string) (store.Change, error) {
	c := store.Change{By: store.Actor("token:" + principal(ctx).Name), At: principal(ctx).now().UTC(), Request: requestID(ctx)}
	if ifMatch == "" || ifMatch == "*" {
		return c, nil
	}
	v, err := strconv.ParseUint(strings.Trim(strings.TrimPrefix(ifMatch, "W/"), `"`), 10, 64)
	if err != nil || v == 0 {
		return c, fail(http.StatusBadRequest, api.CodeBadRequest, "If-Match holds no version", `send the ETag of the object, such as "42"`)
	}
	c.IfMatch = wire.Revision(v)
	return c, nil
}

func etag(version wire.Revision) string {
	return strconv.Quote(strconv.FormatUint(uint64(version), 10))
}

// lookup finds the principal behind a token.
func (a *API) lookup(ctx context.Context, hash [32]byte) (*Principal, error) {
	t, err := a.store.Token(ctx, store.SecretHash(hash), a.store.Now())
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrTokenExpired):
		return nil, errNoToken
	case err != nil:
		a.log.Error("token look-up failed", "error", err)
		return nil, err
	}
	return principalOf(&t), nil
}

// Shapes that several routes share. Those that are embedded are exported because huma
// looks into no other.
type (
	Precondition struct {
		IfMatch string `header:"If-Match" doc:"The change is refused when the object is of another version"`
	}
	Paging struct {
		Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
		After string `query:"after" maxLength:"200" doc:"The next of the page before"`
	}
)

// page cuts a sorted list. The cursor is the key of the last item of the page before,
// so that a list that changes meanwhile neither repeats nor skips what stays in it.
func page[T, V any](all []T, p Paging, key func(*T) string, show func(*T) V) api.Page[V] {
	out := api.Page[V]{Items: []V{}}
	for i := range all {
		k := key(&all[i])
		if k <= p.After {
			continue
		}
		if len(out.Items) == p.Limit {
			out.Next = key(&all[i-1])
			break
		}
		out.Items = append(out.Items, show(&all[i]))
	}
	return out
}
