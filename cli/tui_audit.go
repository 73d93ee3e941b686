package cli

import (
	"context"
	"slices"
	"sync"

	"enclave/store/audit"
	"enclave/tui/screen"
)

// seenTrail is what the terminal UI has seen of the audit trail since it started: the
// first key that the server told, and the checkpoint of the last verification. A server
// that shows another history later is found out.
type seenTrail struct {
	mu    sync.Mutex // guards both; never held while a trail is read
	key   string
	known []audit.Witnessed
}

// VerifyAudit exports the trail and verifies it as it comes.
func (t tuiClient) VerifyAudit(ctx context.Context, progress func(done, total int64)) (screen.Verified, error) {
	cp, err := t.AuditCheckpoint(ctx, 0, 0)
	if err != nil {
		return screen.Verified{}, err
	}
	t.seen.mu.Lock()
	if t.seen.key == "" {
		t.seen.key = cp.Key
	}
	key, known := t.seen.key, slices.Clone(t.seen.known)
	t.seen.mu.Unlock()
	v, err := audit.NewVerifier(key, known, progress)
	if err != nil {
		return screen.Verified{}, err
	}
	body, err := t.ExportAudit(ctx, nil)
	if err != nil {
		return screen.Verified{}, err
	}
	defer body.Close()
	if err := v.File(body); err != nil {
		return screen.Verified{}, err
	}
	r := v.Report()
	out := screen.Verified{First: r.First, Last: r.Last, Sealed: r.Sealed, Origin: r.Origin, Root: r.Root, Key: key, Proven: r.Proven}
	if len(known) > 0 {
		out.Since = known[0].Size
	}
	if r.Finding != nil {
		out.Wrong = r.Finding.Why
		return out, nil
	}
	if c, err := audit.OpenCheckpoint(cp.Checkpoint, key); err == nil {
		t.seen.mu.Lock()
		t.seen.known = []audit.Witnessed{{Name: "this program", Checkpoint: c}}
		t.seen.mu.Unlock()
	}
	return out, nil
}
