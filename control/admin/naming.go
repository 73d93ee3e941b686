package admin

import (
	"context"
	"strings"

	"enclave/store"
	"enclave/wire"
)

// naming finds what the objects of records are called now, each once. What is gone, or
// has no name, has none: the record keeps the ID, which stays.
type naming struct {
	store *store.Store
	found map[string]string
}

func (a *API) naming() naming { return naming{a.store, make(map[string]string)} }

func (n naming) of(ctx context.Context, object string) string {
	name, ok := n.found[object]
	if !ok {
		switch kind, id, _ := strings.Cut(object, ":"); kind {
		case "policy":
			if p, err := n.store.Policy(ctx, wire.PolicyID(id)); err == nil {
				name = p.Name
			}
		case "system":
			if s, err := n.store.System(ctx, wire.SystemID(id)); err == nil {
				name = s.Name
			}
		}
		n.found[object] = name
	}
	return name
}
