package filter

import (
	"time"

	"enclave/wire"
)

// End cuts the live flows that want picks, whatever rules say of them: somebody ended
// them by hand. No grant changes, so what is still allowed may be opened again.
func (t *Table) End(want func(peer wire.SystemID, f wire.Flow) bool, cause string, now time.Time) (cuts []Cut) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick(now)
	for i := len(t.list) - 1; i >= 0; i-- { // remove moves the last one down
		if f := t.list[i]; !f.dead && !t.silent(f) && want(f.peer.id, f.names()) {
			cuts = append(cuts, t.cut(f, cause))
		}
	}
	return cuts
}
