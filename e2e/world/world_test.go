package world

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"enclave/e2e/natlab"
)

// TestTheAPIComesBackWithControl: what was told to a person stays true when control is
// stopped and started again.
func TestTheAPIComesBackWithControl(t *testing.T) {
	if testing.Short() {
		t.Skip("TCP over the simulated internet needs the wall clock")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	lab := natlab.New(natlab.Config{Seed: 1}).Start()
	defer lab.Close()
	w, err := New(ctx, Config{Lab: lab, Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), API: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	at := w.APIAddr()
	ask := func() {
		t.Helper()
		resp, err := http.Get("http://" + at + "/api/v1/version")
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v", resp, err)
		}
		resp.Body.Close()
	}
	ask()
	if err := w.StopControl(); err != nil {
		t.Fatal(err)
	}
	if err := w.StartControl(ctx); err != nil {
		t.Fatal(err)
	}
	if w.APIAddr() != at {
		t.Errorf("the API moved from %s to %s", at, w.APIAddr())
	}
	ask()
}
