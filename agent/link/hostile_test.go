package link

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"enclave/wire/frame"
)

// TestRelayMakesNobodyHold: a relay that says without end that it has no ticket, takes
// nothing, drains and tells tales, fills neither memory nor the log of its clients, nor
// keeps them busy with all their pairs.
func TestRelayMakesNobodyHold(t *testing.T) {
	run(t, "hard", "hard", 1, func(w *world) {
		w.until(5*time.Second, "relayed", func() bool { return w.alice.say("first") })
		l, log := w.alice.Link, new(bytes.Buffer)
		p := l.table.byID(fid(t, "bob00"))
		l.mu.Lock()
		was := l.log
		l.log = slog.New(slog.NewTextHandler(log, nil))
		rc := newRelayConn(l, "evil", "192.0.2.66:443") // whose writer is stuck
		rc.up = true
		rc.openLocked(p)
		l.mu.Unlock()
		once, spoke := len(rc.ctl), 0
		for range 1000 {
			for kind, b := range map[frame.Type][]byte{
				frame.Refused: frame.AppendRefused(nil, p.fid, frame.NoTicket), frame.Drain: frame.AppendDrain(nil, time.Hour),
				frame.Note: frame.AppendNote(nil, "\x1b]0;hello\a"), frame.Ping: frame.AppendPing(nil, [8]byte{}),
			} {
				if err := rc.hear(kind, b[frame.HeaderLen:]); err != nil {
					t.Fatal(err)
				}
				spoke++
			}
			if err := rc.hear(frame.Refused, frame.AppendRefused(nil, p.fid, frame.Expired)[frame.HeaderLen:]); err != nil {
				t.Fatal(err)
			}
			l.mu.Lock()
			rc.openLocked(p) // as the next step does
			l.mu.Unlock()
		}
		l.mu.Lock()
		l.log = was
		l.mu.Unlock()
		if pongs := 1000 * len(frame.AppendPong(nil, [8]byte{})); len(rc.ctl) != once+pongs {
			t.Errorf("%d bytes wait, want one ticket of %d and %d of pongs", len(rc.ctl), once, pongs)
		}
		if n := bytes.Count(log.Bytes(), []byte("\n")); n > wordsBurst || n == 0 || bytes.ContainsRune(log.Bytes(), 0x1b) {
			t.Errorf("%d lines in the log after %d words of a relay:\n%.300s", n, spoke, log)
		}
		// Once it can have read the ticket, it is told again.
		rc.ctlMu.Lock()
		rc.ctl, rc.taken = nil, rc.taken+1
		rc.ctlMu.Unlock()
		rc.hearRefused(p.fid, frame.NoTicket)
		l.mu.Lock()
		rc.openLocked(p)
		l.mu.Unlock()
		if len(rc.ctl) != once {
			t.Errorf("%d bytes after a ticket was lost, want %d", len(rc.ctl), once)
		}
	})
}

func fid(t *testing.T, id string) frame.ID {
	t.Helper()
	var f frame.ID
	if copy(f[:], id) != len(f) {
		t.Fatal(id)
	}
	return f
}
