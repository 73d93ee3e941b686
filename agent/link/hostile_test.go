package link

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/time/rate"

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
		said := bytes.Count(log.Bytes(), []byte("\n"))
		rc.words = rate.NewLimiter(rate.Inf, 1)
		rc.tell(slog.LevelInfo, "later")
		rc.tell(slog.LevelInfo, "last")
		l.mu.Lock()
		l.log = was
		l.mu.Unlock()
		if later := fmt.Sprintf("msg=later relay=evil more=%d\n", 2001-said); !bytes.Contains(log.Bytes(), []byte(later)) ||
			!bytes.HasSuffix(log.Bytes(), []byte("msg=last relay=evil\n")) {
			t.Errorf("no %q in %s", later, log)
		}
		if pongs := 1000 * len(frame.AppendPong(nil, [8]byte{})); len(rc.ctl) != once+pongs {
			t.Errorf("%d bytes wait, want one ticket of %d and %d of pongs", len(rc.ctl), once, pongs)
		}
		if said > wordsBurst || said == 0 || bytes.ContainsRune(log.Bytes(), 0x1b) {
			t.Errorf("%d lines in the log after %d words of a relay:\n%.300s", said, spoke, log)
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
