package control

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/ticket"
)

func TestTicketsAreSharedAndRenewedAtHalfLife(t *testing.T) {
	pub, priv, _ := ed25519.GenerateKey(nil)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ts := newTickets(priv, "org", 2*time.Hour)
	first, renew := ts.get("aaaaa", "bbbbb", now)
	if same, _ := ts.get("bbbbb", "aaaaa", now.Add(time.Hour-1)); !bytes.Equal(first, same) {
		t.Error("the two ends hold different tickets")
	}
	if want := now.Add(time.Hour); !renew.Equal(want) {
		t.Errorf("renewed at %v, want %v", renew, want)
	}
	second, _ := ts.get("aaaaa", "bbbbb", renew)
	if bytes.Equal(first, second) {
		t.Error("not renewed at half life")
	}
	got, err := ticket.Verify(pub, second, "org", renew)
	if err != nil || got.NotAfter != renew.Add(2*time.Hour) {
		t.Errorf("ticket %+v, %v", got, err)
	}
	ts.sweep(renew.Add(2 * time.Hour))
	if len(ts.held) != 0 {
		t.Error("an ended ticket is kept")
	}
}

func TestTicketsOfEndlessMapsEnd(t *testing.T) {
	_, priv, _ := ed25519.GenerateKey(nil)
	if ts := newTickets(priv, wire.OrgID("org"), 0); ts.life != maxTicketLife {
		t.Errorf("life %v", ts.life)
	}
}
