package control

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/ticket"
)

func TestTicketsAreSharedAndRenewedAtHalfLife(t *testing.T) {
	pub, priv, _ := ed25519.GenerateKey(nil)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ts, restarted := newTickets(priv, "org", 2*time.Hour), newTickets(priv, "org", 2*time.Hour)
	get := func(ts *tickets, self, peer wire.SystemID, now time.Time) ([]byte, time.Time) {
		at := turn{tickets: ts, self: self, now: now, renewAt: now.Add(time.Hour)}
		raw := at.Ticket(peer)
		return raw, at.renewAt
	}
	instants := make(map[time.Time]bool)
	for i := range 100 {
		a, b := wire.SystemID("aaaaa"), wire.SystemID(fmt.Sprintf("bb%03d", i))
		first, renew := get(ts, a, b, now)
		if same, _ := get(ts, b, a, renew.Add(-1)); !bytes.Equal(first, same) {
			t.Fatal("the two ends hold different tickets")
		}
		if same, _ := get(restarted, b, a, renew.Add(-1)); !bytes.Equal(first, same) {
			t.Fatal("another ticket after a restart")
		}
		if left := renew.Sub(now); left <= 0 || left > time.Hour {
			t.Fatalf("renewed after %v of a life of 2h", left)
		}
		second, _ := get(ts, a, b, renew)
		if bytes.Equal(first, second) {
			t.Fatal("not renewed at half life")
		}
		got, err := ticket.Verify(pub, second, "org", renew)
		if err != nil || got.NotAfter != renew.Add(2*time.Hour) {
			t.Fatalf("ticket %+v, %v", got, err)
		}
		instants[renew] = true
	}
	if len(instants) < 2 || len(instants) > ticketTurns {
		t.Errorf("renewed at %d instants, want up to %d", len(instants), ticketTurns)
	}
}

func TestTicketsHeldAreBounded(t *testing.T) {
	_, priv, _ := ed25519.GenerateKey(nil)
	ts := newTickets(priv, "org", time.Hour)
	for i := range maxHeldTickets/2 + 1 {
		ts.held[pair{"aaaaa", wire.SystemID(fmt.Sprint(i))}] = held{}
	}
	end := time.Now()
	first := ts.get("aaaaa", "bbbbb", end)
	if len(ts.held) != 1 || !bytes.Equal(first, ts.get("bbbbb", "aaaaa", end)) {
		t.Errorf("%d tickets held", len(ts.held))
	}
}

func TestTicketsOfEndlessMapsEnd(t *testing.T) {
	_, priv, _ := ed25519.GenerateKey(nil)
	if ts := newTickets(priv, wire.OrgID("org"), 0); ts.life != maxTicketLife {
		t.Errorf("life %v", ts.life)
	}
}
