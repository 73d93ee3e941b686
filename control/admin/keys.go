package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"enclave/control/enrol"
	"enclave/control/policy"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

type (
	keyRef struct {
		Key string `path:"key" maxLength:"128" doc:"ID or name"`
	}
	keyVerb struct {
		Key string `path:"key" maxLength:"128" doc:"ID or name"`
		Tried
	}
	keyList   struct{ Body api.Page[api.Key] }
	keyBody   struct{ Body api.Key }
	keyCreate struct {
		Tried
		Body api.KeyCreate
	}
	created struct {
		Status int
		Body   either[api.KeyCreated]
	}
)

func (a *API) routeKeys() {
	route(a, "key-list", func(ctx context.Context, in *Paging) (*keyList, error) {
		all, err := a.store.Keys(ctx)
		if err != nil {
			return nil, refuse(err)
		}
		// In the order in which they were made, which their IDs do not tell.
		return &keyList{page(all, *in, keyCursor, keyView)}, nil
	})
	route(a, "key-get", func(ctx context.Context, in *keyRef) (*keyBody, error) {
		k, err := a.store.FindKey(ctx, in.Key)
		return &keyBody{keyView(&k)}, refuse(err)
	})
	route(a, "key-create", a.keyCreate)
	route(a, "key-enable", a.keyAction(func(ctx context.Context, c store.Change, id wire.KeyID) (wire.Revision, error) {
		return a.store.SetKeyEnabled(ctx, c, id, true)
	}))
	route(a, "key-disable", a.keyAction(func(ctx context.Context, c store.Change, id wire.KeyID) (wire.Revision, error) {
		return a.store.SetKeyEnabled(ctx, c, id, false)
	}))
	route(a, "key-delete", a.keyAction(a.store.DeleteKey))
}

func (a *API) keyAction(do func(context.Context, store.Change, wire.KeyID) (wire.Revision, error)) func(context.Context, *keyVerb) (*outcome, error) {
	return func(ctx context.Context, in *keyVerb) (*outcome, error) {
		return asOutcome(in.order(ctx, a, func(ctx context.Context, c store.Change) (wire.Revision, error) {
			k, err := a.store.FindKey(ctx, in.Key)
			if err != nil {
				return 0, err
			}
			return do(ctx, c, k.ID)
		}))
	}
}

func (a *API) keyCreate(ctx context.Context, in *keyCreate) (*created, error) {
	b := &in.Body
	if bad := checkKey(b, a.store.Now()); len(bad) > 0 {
		return nil, invalid(bad...)
	}
	secret := enrol.NewSecret()
	p := store.KeyParams{
		Name: b.Name, Kind: b.Kind, Automatic: b.Approval == "automatic", Uses: b.Uses, Tags: b.Tags,
		Retention: time.Duration(b.Retention) * time.Second, Secret: secret.Hash(), Sources: b.Sources,
		Expires: store.End{Local: b.ExpiresLocal, Action: b.ExpiryAction},
	}
	if b.ExpiresAt != nil {
		p.Expires.At = *b.ExpiresAt
	}
	var k store.Key
	o, err := in.order(ctx, a, func(ctx context.Context, c store.Change) (_ wire.Revision, err error) {
		k, err = a.store.CreateKey(ctx, c, p)
		return 0, err
	})
	switch {
	case err != nil:
		return nil, err
	case o.Impact != nil:
		return &created{http.StatusOK, either[api.KeyCreated]{impact: o.Impact}}, nil
	}
	return &created{http.StatusCreated, either[api.KeyCreated]{done: api.KeyCreated{Key: keyView(&k), Secret: string(secret)}}}, nil
}

// checkKey returns every mistake of a request for a key.
func checkKey(b *api.KeyCreate, now time.Time) (bad []wire.Problem) {
	add := func(path, format string, args ...any) {
		bad = append(bad, wire.Problem{Path: path, Message: fmt.Sprintf(format, args...)})
	}
	bad = append(bad, policy.CheckText("name", b.Name, wire.MaxNameLen, false)...)
	switch b.Kind {
	case "", store.General, store.Ephemeral, store.RelayKey:
	default:
		add("kind", "want general, ephemeral or relay")
	}
	switch {
	case b.Approval != "" && b.Approval != "manual" && b.Approval != "automatic":
		add("approval", "want manual or automatic")
	case b.Approval == "manual" && b.Kind != "" && b.Kind != store.General:
		add("approval", "a key of kind %s is automatic", b.Kind)
	}
	switch {
	case b.Uses != nil && *b.Uses < 1:
		add("uses", "%d, want at least 1; leave it out for unlimited", *b.Uses)
	case b.Uses != nil && b.Kind == store.Ephemeral:
		add("uses", "an ephemeral key is unlimited")
	}
	const longest = 365 * 24 * 3600 // a year, in seconds
	switch {
	case b.Retention < 0 || b.Retention > longest:
		add("retention_seconds", "want 0 to %d", longest)
	case b.Retention > 0 && b.Kind != store.Ephemeral:
		add("retention_seconds", "only an ephemeral key has one")
	}
	if len(b.Tags) > wire.MaxTagsPerSystem {
		add("tags", "%d tags, at most %d", len(b.Tags), wire.MaxTagsPerSystem)
	}
	for i, t := range b.Tags {
		if _, err := wire.ParseTag(string(t)); err != nil {
			add(fmt.Sprintf("tags[%d]", i), "%v", err)
		}
	}
	if len(b.Sources) > store.MaxSources {
		add("sources", "%d ranges, at most %d", len(b.Sources), store.MaxSources)
	}
	for i, s := range b.Sources {
		if err := policy.CheckRange(s); err != nil {
			add(fmt.Sprintf("sources[%d]", i), "%v", err)
		}
	}
	switch b.ExpiryAction {
	case "", wire.DisableOnExpiry, wire.DeleteOnExpiry:
	default:
		add("expiry_action", "want disable or delete")
	}
	if b.ExpiryAction != "" && b.ExpiresAt == nil && b.ExpiresLocal == nil {
		add("expiry_action", "goes with expires_at or expires_local")
	}
	return append(bad, checkEnd(b.ExpiresAt, b.ExpiresLocal, now)...)
}

// checkEnd returns every mistake of an expiry at the moment it is written.
func checkEnd(at *time.Time, local *wire.LocalTime, now time.Time) (bad []wire.Problem) {
	path := "expires_at"
	if local != nil {
		path = "expires_local"
		bad = policy.ValidateLocal(*local, at != nil, path)
		if end, err := local.Instant(); err == nil && len(bad) == 0 {
			at = &end
		}
	}
	if at != nil && len(bad) == 0 && !at.After(now) {
		bad = append(bad, wire.Problem{Path: path, Message: "is in the past"})
	}
	return bad
}

func keyCursor(k *store.Key) string {
	return fmt.Sprintf("%020d-%s", k.CreatedAt.UnixNano(), k.ID)
}

func keyView(k *store.Key) api.Key {
	v := api.Key{
		ID: k.ID, Name: k.Name, Kind: k.Kind, Approval: "manual", Uses: k.UsesLeft, Used: k.Used, Tags: orEmpty(k.Tags),
		Enabled: k.Enabled, ExpiresAt: orNil(k.ExpiresAt), ExpiresLocal: k.ExpiresLocal, ExpiryAction: k.ExpiryAction, Sources: k.Sources, Retention: int(k.Retention / time.Second), CreatedAt: k.CreatedAt,
	}
	if k.Automatic {
		v.Approval = "automatic"
	}
	return v
}
