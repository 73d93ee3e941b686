package agent

import (
	"errors"
	"fmt"
	"time"

	"enclave/store/audit"
	"enclave/wire"
	"enclave/wire/api"
)

// witness is what an agent remembers of control's audit trail. It is never changed, only
// replaced. The first checkpoint is believed, as the connection it comes on is; each
// further one has to continue the one that is remembered (docs/decisions/0102).
type witness struct {
	Key        string    `json:"key"`
	Checkpoint string    `json:"checkpoint"` // signed
	Size       int64     `json:"size"`
	At         time.Time `json:"at"`

	Alarm     string    `json:"alarm,omitempty"`   // why Refused is not believed
	Refused   string    `json:"refused,omitempty"` // with Checkpoint, the proof of it
	RefusedAt time.Time `json:"refused_at,omitzero"`
}

// errOtherKey is why a checkpoint of another key is refused.
var errOtherKey = errors.New("it is signed by another key than before")

// hear judges a checkpoint and returns what to remember from now on. The error is an
// alarm, and stands in what it returns.
func (w *witness) hear(m *wire.Checkpoint, org wire.OrgID, now time.Time) (*witness, error) {
	next := &witness{Key: m.Key, Checkpoint: m.Note, At: now}
	if w != nil {
		next.Key = w.Key
	}
	alarm := func(err error) (*witness, error) {
		if w == nil {
			return nil, err
		}
		out := *w
		out.Alarm, out.Refused, out.RefusedAt = err.Error(), m.Note[:min(len(m.Note), audit.MaxCheckpoint)], now
		return &out, err
	}
	if m.Key != next.Key || len(m.Key) > audit.MaxCheckpoint {
		return alarm(errOtherKey)
	}
	c, err := audit.OpenCheckpoint(m.Note, next.Key)
	if err == nil && c.Origin != audit.Origin(org) {
		err = fmt.Errorf("%w: it is of %.80q", audit.ErrCheckpoint, c.Origin)
	}
	if err != nil {
		return alarm(err)
	}
	next.Size = c.Size
	if w == nil {
		return next, nil
	}
	old, err := audit.OpenCheckpoint(w.Checkpoint, w.Key)
	if err != nil {
		return alarm(fmt.Errorf("what this system remembers: %w", err))
	}
	if c.Size > old.Size && m.Old != old.Size {
		return w, nil // a proof for another state than the one at hand: the next comes with the right one
	}
	proof, err := audit.Hashes(m.Proof)
	if err == nil {
		err = audit.Judge(old, c, proof)
	}
	if err != nil {
		return alarm(err)
	}
	return next, nil
}

// witness takes a checkpoint in.
func (l *looper) witness(m *wire.Checkpoint, now time.Time) {
	before := l.st.Witness
	next, err := before.hear(m, l.st.Org, now)
	l.st.Witness = next
	switch {
	case err != nil && (before == nil || before.Alarm != err.Error()):
		l.log.Error("THE AUDIT TRAIL OF CONTROL CANNOT BE TRUSTED: its checkpoint was refused", "reason", err,
			"next", "enclave audit witness shows both; compare them with what others remember")
		l.remember(now)
	case err == nil && before != nil && before.Alarm != "":
		l.log.Warn("control shows the audit trail that this system remembers again", "records", next.Size)
		l.remember(now)
	case err == nil && next != nil && (before == nil || next.Size != before.Size):
		l.remember(now) // the saver spaces writes; what a crash loses is a newer checkpoint
	}
	l.Agent.witnessed.Store(next.size())
}

func (w *witness) size() int64 {
	if w == nil {
		return 0
	}
	return w.Size
}

// view is what the local API says of it.
func (w *witness) view() *api.Witness {
	if w == nil {
		return nil
	}
	v := &api.Witness{Key: w.Key, Checkpoint: w.Checkpoint, Size: w.Size, At: w.At, Alarm: w.Alarm, Refused: w.Refused}
	if !w.RefusedAt.IsZero() {
		v.RefusedAt = &w.RefusedAt
	}
	return v
}
