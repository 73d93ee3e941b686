package control

import (
	"slices"

	"enclave/control/policy"
	"enclave/wire"
)

// What a stream may owe before looking at everything again is cheaper, and memory that
// a slow agent must not be able to hold.
const (
	maxOwedChanges = 64
	maxOwedPeers   = 1024
)

// debt is what an agent has not been told yet: which of its peers may differ from what
// it has. What is owed of them is derived when the stream's turn comes, so that ten
// changes in a burst are looked at once, and a change costs a system that is not
// connected nothing (docs/decisions/0028).
type debt struct {
	all     bool              // anybody
	changes []*policy.Touched // whom the engine says; shared by all streams, read only
	peers   []wire.SystemID   // whose entry is another
}

func (d *debt) change(t *policy.Touched) {
	if d.all {
		return
	}
	if d.changes = append(d.changes, t); len(d.changes) > maxOwedChanges {
		*d = debt{all: true}
	}
}

func (d *debt) peer(id wire.SystemID) {
	if d.all || slices.Contains(d.peers, id) {
		return
	}
	if d.peers = append(d.peers, id); len(d.peers) > maxOwedPeers {
		*d = debt{all: true}
	}
}

// of unfolds the debt of a system into the peers to look at, sorted.
func (d *debt) of(id wire.SystemID) []wire.SystemID {
	peers := d.peers
	for _, t := range d.changes {
		peers = append(peers, t.Peers(id)...)
	}
	slices.Sort(peers)
	return slices.Compact(peers)
}
