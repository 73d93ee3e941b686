package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"enclave/loglimit"
	"enclave/store"
)

type recorded struct {
	mu   sync.Mutex // guards list
	list []string
}

func (r *recorded) Record(_ context.Context, c store.Change, action, object string, detail any) error {
	b, err := json.Marshal(detail)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, fmt.Sprintf("%s %s %s %s %s", c.Outcome, c.By, action, object, b))
	return err
}

func (r *recorded) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	return list
}

// TestDenialsAreBounded floods for an hour: the trail keeps a bounded number of records,
// and every refusal is in one of them or in a count.
func TestDenialsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out recorded
		d := newDenials(&out, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { d.run(ctx); close(done) }()
		const rate, hour = 100, 3600
		for range hour * rate / 10 { // 36,000 refusals from many addresses
			for i := range 10 {
				d.note(ctx, time.Now(), Denial{Action: "auth.deny", Object: "api", From: fmt.Sprintf("192.0.2.%d:1", i)})
			}
			time.Sleep(time.Second * 10 / rate)
		}
		cancel()
		<-done
		list := out.take()
		single, counted := 0, 0
		for _, l := range list {
			var who, action, object, outcome string
			var detail string
			if _, err := fmt.Sscanf(l, "%s %s %s %s %s", &outcome, &who, &action, &object, &detail); err != nil {
				t.Fatal(l, err)
			}
			if action == "auth.deny" {
				single++
				continue
			}
			if who != "control" || action != "audit.suppressed" || outcome != "denied" {
				t.Errorf("a count is recorded as %s", l)
			}
			var sum struct{ Counts map[string]int }
			if err := json.Unmarshal([]byte(detail), &sum); err != nil {
				t.Fatal(l, err)
			}
			counted += sum.Counts["auth.deny"]
		}
		if single+counted != hour*rate || single < denialBurst || single > denialBurst+hour/10+1 || len(list)-single > hour/60+1 {
			t.Errorf("%d records, %d of them single; %d counted, of %d", len(list), single, counted, hour*rate)
		}
		t.Logf("%d refusals: %d records of one, %d counts", hour*rate, single, len(list)-single)
	})
}

// TestOneAddressLeavesRoom lets one address try as much as it wants.
func TestOneAddressLeavesRoom(t *testing.T) {
	var out recorded
	d := newDenials(&out, slog.New(slog.DiscardHandler))
	now := time.Unix(1_700_000_000, 0)
	for range 1000 {
		d.note(t.Context(), now, Denial{Action: "auth.deny", From: "192.0.2.1:1"})
	}
	if n := len(out.take()); n != failureBurst {
		t.Errorf("%d records of one address", n)
	}
	d.note(t.Context(), now, Denial{Action: "auth.deny", From: "192.0.2.2:1"})
	if list := out.take(); len(list) != 1 || list[0] != `denied stranger:192.0.2.2 auth.deny  {"from":"192.0.2.2"}` {
		t.Errorf("%q", list)
	}
	d.note(t.Context(), now, Denial{Action: "auth.deny", From: strings.Repeat("x", 2*maxDenialText)}) // no host and port
	if list := out.take(); len(list) != 1 || len(list[0]) > 3*maxDenialText {
		t.Errorf("%.400q", list)
	}
}

// TestALockedStateKeepsLittleOfStrangers: there is no trail to count refusals in, so each is
// a line of the log, a bounded number of times.
func TestALockedStateKeepsLittleOfStrangers(t *testing.T) {
	var log bytes.Buffer
	h, err := NewSealed(SealedConfig{Logger: slog.New(slog.NewTextHandler(&log, nil)), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	const tries = 3 * loglimit.Burst
	for i := range tries {
		r := httptest.NewRequest("GET", "/api/v1/seal", nil)
		r.Header.Set("Authorization", "Bearer enctok_wrong")
		r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1000", i%200) // nobody is throttled
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized {
			t.Fatalf("try %d: %d", i, w.Code)
		}
	}
	if n := bytes.Count(log.Bytes(), []byte("request refused")); n < loglimit.Burst || n >= tries*2/3 {
		t.Errorf("%d lines of %d refusals, want %d and few more", n, tries, loglimit.Burst)
	}
}
