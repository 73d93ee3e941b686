package agent

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"enclave/store/audit"
	"enclave/wire"
)

// trail is an audit trail in memory, with the key that signs it.
type trail struct {
	secret, public string
	hashes         []tlog.Hash
	n              int64
}

func newTrail(t *testing.T, org wire.OrgID) *trail {
	t.Helper()
	secret, public, err := audit.NewKey(org)
	if err != nil {
		t.Fatal(err)
	}
	return &trail{secret: secret, public: public}
}

func (r *trail) ReadHashes(places []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(places))
	for i, p := range places {
		out[i] = r.hashes[p]
	}
	return out, nil
}

func (r *trail) grow(n int, with byte) *trail {
	for range n {
		h, err := tlog.StoredHashesForRecordHash(r.n, audit.Leaf(audit.Hash{with, byte(r.n)}), r)
		if err != nil {
			panic(err)
		}
		r.hashes, r.n = append(r.hashes, h...), r.n+1
	}
	return r
}

// fork continues a trail of size records on its own, with the same key.
func (r *trail) fork(size int64) *trail {
	return &trail{r.secret, r.public, append([]tlog.Hash(nil), r.hashes[:tlog.StoredHashCount(size)]...), size}
}

// message is what control sends an agent that remembers old records.
func (r *trail) message(t *testing.T, org wire.OrgID, old int64) *wire.Checkpoint {
	t.Helper()
	root, err := tlog.TreeHash(r.n, r)
	if err != nil {
		t.Fatal(err)
	}
	c := audit.Checkpoint{Origin: audit.Origin(org), Size: r.n, Root: root}
	note, err := c.Sign(r.secret)
	if err != nil {
		t.Fatal(err)
	}
	m := &wire.Checkpoint{Note: note, Key: r.public}
	if old > 0 && old < r.n {
		p, err := tlog.ProveTree(r.n, old, r)
		if err != nil {
			t.Fatal(err)
		}
		m.Old, m.Proof = old, audit.Bytes(p)
	}
	return m
}

func TestWitness(t *testing.T) {
	const org = wire.OrgID("01J0000000000000000000TEST")
	now := time.Unix(1_700_000_000, 0)
	mine := newTrail(t, org).grow(10, 1)
	w, err := (*witness)(nil).hear(mine.message(t, org, 0), org, now)
	if err != nil || w.Size != 10 {
		t.Fatalf("the first: %+v, %v", w, err)
	}
	w, err = w.hear(mine.grow(5, 1).message(t, org, 10), org, now)
	if err != nil || w.Size != 15 {
		t.Fatalf("the next: %+v, %v", w, err)
	}
	if same, err := w.hear(mine.message(t, org, 15), org, now); err != nil || same.Size != 15 {
		t.Errorf("the same: %+v, %v", same, err)
	}
	// A proof from another state than the remembered one says nothing, neither way.
	if same, err := w.hear(mine.fork(15).grow(5, 1).message(t, org, 10), org, now); err != nil || same != w {
		t.Errorf("a proof from another state: %+v, %v", same, err)
	}
	spoilt := mine.fork(15).grow(5, 1).message(t, org, 15)
	spoilt.Proof[0][0] ^= 1
	short := mine.fork(15).grow(5, 1).message(t, org, 15)
	short.Proof = [][]byte{{1}}
	garbled := mine.message(t, org, 15)
	garbled.Note = "enclave" + garbled.Note
	elsewhere := newTrail(t, "other").grow(20, 1)
	for name, tc := range map[string]struct {
		m    *wire.Checkpoint
		want error
	}{
		"rolled back":        {mine.fork(12).message(t, org, 15), audit.ErrRollback},
		"another history":    {mine.fork(14).grow(1, 2).message(t, org, 15), audit.ErrFork},
		"a fork that grew":   {mine.fork(14).grow(9, 2).message(t, org, 15), audit.ErrFork},
		"a spoilt proof":     {spoilt, audit.ErrFork},
		"a proof of no size": {short, audit.ErrCheckpoint},
		"a spoilt note":      {garbled, audit.ErrCheckpoint},
		"another key":        {newTrail(t, org).grow(20, 1).message(t, org, 15), errOtherKey},
		"another log":        {elsewhere.message(t, "other", 15), errOtherKey},
	} {
		next, err := w.hear(tc.m, org, now)
		if !errors.Is(err, tc.want) || next.Alarm != err.Error() || next.Refused != tc.m.Note || next.Checkpoint != w.Checkpoint || next.Size != 15 || w.Alarm != "" {
			t.Errorf("%s: %+v, %v", name, next, err)
			continue
		}
		// What is refused is not built upon; the true trail ends the alarm.
		if again, err := next.hear(mine.fork(15).grow(1, 1).message(t, org, 15), org, now); err != nil || again.Alarm != "" || again.Size != 16 {
			t.Errorf("%s, then the true one: %+v, %v", name, again, err)
		}
	}
	if first, err := (*witness)(nil).hear(elsewhere.message(t, "other", 0), org, now); err == nil || first != nil {
		t.Errorf("the first is of another log: %+v", first)
	}
}

func TestStateOfVersion1(t *testing.T) {
	st, err := newState()
	if err != nil {
		t.Fatal(err)
	}
	st.Version = 1
	k := new(MemoryKeeper)
	if err := st.save(k); err != nil {
		t.Fatal(err)
	}
	again, fresh, err := loadState(k)
	if err != nil || fresh || again.Version != stateVersion || again.Witness != nil {
		t.Errorf("%+v, %v", again, err)
	}
}
