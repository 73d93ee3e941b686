package control

import (
	"context"
	"errors"
	"time"

	"enclave/control/admin"
	"enclave/store"
	"enclave/store/seal"
	"enclave/wire/api"
)

var errNotLocked = errors.New("the state is not locked")

// vault is what the API does to the seal of the state. It finds the front when it is
// asked: a server has none before it serves, and the API of a locked front must not
// keep the server, with all that it knows, in memory.
type vault struct{ find func() *Front }

// rotation is the rotation under way or the last one; guarded by Front.mu.
type rotation struct {
	running bool
	state   api.Rotation
}

func (v vault) front() (*Front, error) {
	f := v.find()
	if f == nil {
		return nil, store.ErrClosed
	}
	return f, nil
}

// Seal tells how the state is sealed.
func (v vault) Seal() api.Seal {
	f, err := v.front()
	if err != nil {
		return api.Seal{State: api.SealOpen}
	}
	l := f.live.Load()
	if l == nil {
		if f.closed.Load() {
			return api.Seal{State: api.SealLocked}
		}
		return api.Seal{State: api.SealLocking}
	}
	sealed := l.server.cfg.Store.Sealed()
	out := api.Seal{State: api.SealOpen, Root: sealed.Root, Own: sealed.Own}
	for _, r := range sealed.Recipients {
		out.Recipients = append(out.Recipients, api.SealRecipient{Kind: r.Kind(), Recipient: r.String()})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.rotate.state.Began.IsZero() {
		state := f.rotate.state
		out.Rotation = &state
	}
	return out
}

// Rotate begins a rotation.
func (v vault) Rotate(c store.Change) error {
	f, err := v.front()
	if err != nil {
		return err
	}
	l := f.live.Load()
	if l == nil || !l.handlers.enter() { // what leaves when the rotation ends
		return store.ErrClosed
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rotate.running {
		l.handlers.leave()
		return store.ErrBusy
	}
	f.rotate = rotation{true, api.Rotation{Began: c.At}}
	go func() {
		defer l.handlers.leave()
		r, err := l.server.cfg.Store.Rotate(l.ctx, c, func(done, total int64) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.rotate.state.Done, f.rotate.state.Total = done, total
		})
		f.rotated(r, err)
	}()
	return nil
}

func (f *Front) rotated(r store.Rotated, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now().UTC()
	f.rotate.running = false
	s := &f.rotate.state
	s.Ended, s.Root, s.Pages, s.PauseMicros = &now, r.Root, r.Pages, r.Pause.Microseconds()
	if err != nil {
		s.Error = err.Error()
		f.log.Error("the rotation of the seal did not come to its end; it may be run again", "error", err)
		return
	}
	f.log.Info("the state is sealed under a new root", "root", r.Root, "pages", r.Pages, "writers_paused", r.Pause)
}

// Recipients lets f change who opens the state.
func (v vault) Recipients(ctx context.Context, c store.Change, f func(*seal.Keyring) (any, error)) error {
	front, err := v.front()
	if err != nil {
		return err
	}
	l := front.live.Load()
	if l == nil || !l.handlers.enter() {
		return store.ErrClosed
	}
	defer l.handlers.leave()
	return l.server.cfg.Store.ChangeRecipients(ctx, c, f)
}

// Lock begins to lock the state. The answer of the request that asks is on its way
// before everything ends.
func (v vault) Lock(ctx context.Context, c store.Change) error {
	f, err := v.front()
	if err != nil {
		return err
	}
	if f.reopen == nil {
		return admin.ErrNoLock
	}
	select {
	case f.wishes <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Unlock opens a locked state.
func (v vault) Unlock(ctx context.Context, c store.Change, ids []seal.Identity) error {
	f, err := v.front()
	if err != nil {
		return err
	}
	return f.unlock(ctx, c, ids)
}
