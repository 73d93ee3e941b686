package store

import (
	"context"
	"net/netip"

	"enclave/wire"
)

// ChangeRoutes adds and removes subnets that a system may carry for others, in one
// revision. A subnet is named by how it is shown; one that it has already, or that is to
// go and is not there, refuses the whole change.
func (s *Store) ChangeRoutes(ctx context.Context, c Change, id wire.SystemID, add []wire.Route, remove []netip.Prefix) (wire.Revision, error) {
	detail := map[string]any{}
	if len(add) > 0 {
		detail["add"] = add
	}
	if len(remove) > 0 {
		detail["remove"] = remove
	}
	return s.changeSystem(ctx, "system.route", c, id, detail, func(w *writing, _ bool) error {
		for _, p := range remove {
			err := w.exec(ctx, notFound("route", p.String()),
				"DELETE FROM system_routes WHERE org_id = ? AND system_id = ? AND shown = ?", w.org, id, p.String())
			if err != nil {
				return err
			}
		}
		for _, r := range add {
			if err := r.Check(); err != nil {
				return conflict("%v", err)
			}
			var there int
			err := w.QueryRowContext(ctx, "SELECT count(*) FROM system_routes WHERE org_id = ? AND system_id = ? AND shown = ?", w.org, id, r.Shown().String()).Scan(&there)
			if err != nil {
				return err
			}
			if there > 0 {
				return conflict("the system carries %s already", r.Shown())
			}
			_, err = w.ExecContext(ctx, "INSERT INTO system_routes VALUES (?, ?, ?, ?)", w.org, id, r.Shown().String(), r.Subnet.String())
			if err != nil {
				return err
			}
		}
		var n int
		err := w.QueryRowContext(ctx, "SELECT count(*) FROM system_routes WHERE org_id = ? AND system_id = ?", w.org, id).Scan(&n)
		if err == nil && n > wire.MaxRoutes {
			return conflict("it would carry %d subnets, at most %d", n, wire.MaxRoutes)
		}
		return err
	})
}

// readRoute is a row of system_routes.
func readRoute(shown, subnet netip.Prefix) wire.Route {
	r := wire.Route{Subnet: subnet}
	if shown != subnet {
		r.As = shown
	}
	return r
}
