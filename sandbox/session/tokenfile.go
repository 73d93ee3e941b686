package session

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"time"

	"enclave/sandbox/tools"
)

// tokenLook is how often the token file is looked at. A change counts once two looks in a
// row have seen the same: a file that is being written is not believed.
const tokenLook = time.Second

// lookAgain is how often an operator is told of a token file that cannot be taken.
const lookAgain = time.Minute

// Outcomes of a record about tokens, beside "ok".
const (
	tokensKept    = "TOKENS_KEPT"    // the file cannot be taken as it is
	tokensExpired = "TOKENS_EXPIRED" // nobody changed anything: some came to their end
)

// watched is what is known of the token file. Only the loop of keepTokens has it.
type watched struct {
	judged [32]byte  // what it said when it was acted upon
	last   [32]byte  // what it said at the look before
	seen   stamp     // of the file that said what is in force; zero: it is read in any case
	read   time.Time // when it was read last
	told   time.Time // when its operator was told that it cannot be taken
}

// keepTokens has the server accept what the token file says, and ends tokens at their
// instant. A signal has the file read at once: who sends it is done with writing.
func (s *Server) keepTokens(ctx context.Context) {
	w := watched{judged: s.cfg.Tokens.sum, last: s.cfg.Tokens.sum}
	watch := s.cfg.TokenFile != ""
	if watch && s.cfg.Tokens.once {
		s.log.Warn("the token file is no regular file: its tokens stay until a restart", "file", s.cfg.TokenFile)
		watch = false
	}
	tick := time.NewTicker(tokenLook)
	defer tick.Stop()
	for {
		var now time.Time
		signalled := false
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		case <-s.cfg.Again:
			now, signalled = time.Now(), true
		}
		s.expire(ctx, now)
		if watch {
			s.look(ctx, &w, now, signalled)
		}
	}
}

// look reads the file, and acts when what it says has changed.
func (s *Server) look(ctx context.Context, w *watched, now time.Time, atOnce bool) {
	before := w.seen
	if w.seen = (stamp{}); atOnce || now.Sub(w.read) >= readAnyway {
		before = stamp{}
	}
	t, seen, err := readAgain(s.cfg.TokenFile, now, before)
	if err == errSame {
		w.seen = seen
		return
	}
	w.read = now
	sum := said(t, err)
	changed := sum != w.judged
	if changed && sum != w.last && !atOnce {
		w.last = sum
		return
	}
	w.last = sum
	if err == nil {
		if changed && s.accept(ctx, t.list, now, t.exposed, "ok") != nil {
			return // what is new waits for its record: the next look tries again
		}
		if t.exposed {
			err = errExposed
		}
	}
	w.judged = sum
	switch {
	case err == nil:
		w.told, w.seen = time.Time{}, seen
		if atOnce {
			s.log.Info("tokens read again", "file", s.cfg.TokenFile, "held", len(*s.accepted.Load()))
		}
		return
	case !changed && !atOnce && now.Sub(w.told) < lookAgain:
		return
	}
	w.told = now
	what := "the token file cannot be taken: the tokens of before stay accepted"
	if err == errExposed {
		what = "the token file can be read by others: who is not in it is out, and nobody new is accepted"
	}
	s.log.Error(what, "file", s.cfg.TokenFile, "error", err)
	if changed {
		s.record(ctx, tokensKept, tools.TokenChange{Held: len(*s.accepted.Load())}) //nolint:errcheck // it is logged, and nothing hangs on it
	}
}

// settled is how long ago a file must have changed for its stamp to show the next change: the
// clocks of file systems tick up to two seconds apart.
const settled = 5 * time.Second

// readAnyway is how long a file is believed to be the same by its stamp: some file systems, such as
// FAT and those of a program's own, let who changes a file leave its stamp as it was.
const readAnyway = 30 * time.Second

// readAgain is readTokens for a file that has been one. It is errSame if the file has the stamp of
// before: to read and parse a large one takes as long as many requests.
func readAgain(path string, now time.Time, before stamp) (*Tokens, stamp, error) {
	f, info, err := OpenRegular(path)
	if err != nil {
		return nil, stamp{}, err
	}
	defer f.Close()
	is := stampOf(f, now)
	if is == before && is != (stamp{}) {
		return nil, is, errSame
	}
	t, err := readOpen(f, info)
	return t, is, err
}

// OpenRegular opens a file that is read while a server runs. What became a pipe or a device is
// refused without waiting for who writes into it.
func OpenRegular(path string) (*os.File, os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNoFile
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

var (
	errNoFile = errors.New("it is no regular file any more")
	errSame   = errors.New("it is the file of before")
)

// said tells what a file says, and why it cannot be read, from anything else it might.
func said(t *Tokens, err error) [32]byte {
	switch {
	case err != nil:
		return sha256.Sum256([]byte("error: " + err.Error()))
	case t.exposed:
		return sha256.Sum256(append([]byte("exposed: "), t.sum[:]...))
	}
	return t.sum
}

// expire ends the tokens that came to their instant.
func (s *Server) expire(ctx context.Context, now time.Time) {
	for _, one := range *s.accepted.Load() {
		if !one.counts(now) {
			s.accept(ctx, s.accepted.Load().tokens(), now, true, tokensExpired) //nolint:errcheck // nothing is added
			return
		}
	}
}

// accept puts another set of tokens in force, and ends what those that are gone have
// opened. Reach is given with its record or not at all. It is taken away in any case, and
// first: what keeps records may be slow. It returns an error when something could not be given.
func (s *Server) accept(ctx context.Context, list []token, now time.Time, less bool, outcome string) error {
	had := *s.accepted.Load()
	kept, gone, change := had.replaced(list, now, true)
	s.accepted.Store(&kept)
	for _, one := range gone {
		one.end()
	}
	var missing error
	if less {
		if change != nil {
			s.record(ctx, outcome, *change) //nolint:errcheck // it is logged, and nothing hangs on it
		}
	} else if next, _, all := had.replaced(list, now, false); all != nil {
		if missing = s.record(ctx, outcome, *all); missing == nil {
			s.accepted.Store(&next)
			change = all
		}
	}
	if change == nil {
		return missing
	}
	log := s.log.With("held", change.Held)
	if change.Added > 0 || change.Prolonged > 0 {
		log.Info("tokens are accepted from now on", "added", change.Added, "prolonged", change.Prolonged, "of", change.AddedOf)
	}
	if change.Removed > 0 {
		log.Warn("tokens are accepted no more: what they opened ends", "removed", change.Removed, "of", change.RemovedOf, "outcome", outcome)
	}
	if change.Held == 0 {
		log.Warn("no token is left: every caller is refused")
	}
	return missing
}

// recordTime is how long a record of the tokens may take: until then the file is not looked at.
const recordTime = 10 * time.Second

func (s *Server) record(ctx context.Context, outcome string, change tools.TokenChange) error {
	sink := s.cfg.Host.Audit
	if sink == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	err := sink.Append(ctx, tools.Record{At: time.Now().UTC(), Action: "tokens.change", Outcome: outcome, Tokens: &change})
	if err != nil {
		s.log.Error("audit record not kept: tokens that are new stay refused until it can be", "error", err)
	}
	return err
}
