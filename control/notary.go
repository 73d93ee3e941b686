package control

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"enclave/store"
	"enclave/store/audit"
	"enclave/wire"
)

const (
	// notaryDelay lets a burst of records share a checkpoint.
	notaryDelay = time.Second
	// notaryGap is the least time between two checkpoints that agents are sent.
	notaryGap = 10 * time.Second
)

// notary signs the state of the audit trail as it grows, for the agents that witness it.
type notary struct {
	head  atomic.Pointer[store.AuditHead] // the last one signed
	proof atomic.Pointer[consistency]     // the last one made: most agents are at the same size
}

// consistency is a proof between two sizes.
type consistency struct {
	old, size int64
	proof     [][]byte
}

// notarise signs a checkpoint whenever the trail has grown, until ctx ends.
func (h *hub) notarise(ctx context.Context) {
	for {
		news := h.store.AuditNews() // before the reading: what comes later wakes us
		head, err := h.store.AuditHead(ctx)
		switch last := h.notary.head.Load(); {
		case ctx.Err() != nil:
			return
		case err != nil:
			h.log.Error("the audit trail could not be signed", "error", err)
		case last == nil || head.Checkpoint.Size != last.Checkpoint.Size:
			h.notary.head.Store(&head)
			h.mu.Lock()
			for _, n := range h.nodes {
				if n.stream != nil && n.stream.witness.Load() >= 0 {
					n.stream.poke()
				}
			}
			h.mu.Unlock()
			if !pause(ctx, notaryGap) {
				return
			}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return
		}
		if !pause(ctx, notaryDelay) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// noWitness is the size of a stream whose agent does not witness.
const noWitness = -1

// witnessSize reads how many records the checkpoint has that an agent remembers.
func witnessSize(r *http.Request) int64 {
	n, err := strconv.ParseInt(r.URL.Query().Get(wire.QueryWitness), 10, 64)
	if err != nil || n < 0 {
		return noWitness
	}
	return n
}

// checkpoint is what is left to tell an agent of the audit trail, or nil. One that
// remembers more than there is gets what there is, and finds out by itself.
func (s *sender) checkpoint(ctx context.Context) (*wire.Message, error) {
	head, known := s.hub.notary.head.Load(), s.st.witness.Load()
	if head == nil || known == noWitness || head.Checkpoint.Size == s.noted {
		return nil, nil
	}
	m := &wire.Checkpoint{Note: head.Note, Key: head.Key}
	size := head.Checkpoint.Size
	switch {
	case known > size:
		s.hub.log.Error("a system says that it remembers more of the audit trail than there is; if so, it was rolled back", "system", s.st.id, "records", size, "remembered", known)
	case known > 0 && known < size:
		c := s.hub.notary.proof.Load()
		if c == nil || c.old != known || c.size != size {
			proof, err := s.hub.store.ProveConsistency(ctx, known, size)
			if err != nil {
				return nil, fmt.Errorf("prove the audit trail: %w", err)
			}
			c = &consistency{known, size, audit.Bytes(proof)}
			s.hub.notary.proof.Store(c)
		}
		m.Old, m.Proof = c.old, c.proof
	}
	s.noted = size
	if known <= size {
		s.st.witness.Store(size)
	}
	return &wire.Message{Checkpoint: m}, nil
}
