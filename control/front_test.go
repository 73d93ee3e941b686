package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enclave/control/admin"
	"enclave/store"
	"enclave/store/backup"
	"enclave/store/seal"
	"enclave/wire"
	"enclave/wire/api"
)

// lockable makes a world whose state can be locked.
func lockable(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.stop()
	cfg := Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Version: "test"}
	open := func(ctx context.Context, ids []seal.Identity, held *store.Held) (*Server, error) {
		opts := []store.Option{store.WithIdentities(ids...)}
		if held != nil {
			opts = append(opts, store.WithHeld(held))
		}
		st, err := store.Open(ctx, w.dir, opts...)
		if err != nil {
			return nil, err
		}
		cfg.Store = st
		w.store = st
		return New(ctx, cfg)
	}
	srv, err := open(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	f := NewFront(srv, open)
	go func() { ended <- f.Run(ctx, l) }()
	w.srv, w.addr, w.calls = srv, l.Addr().String(), nil
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		w.stop = func() {}
	}
	return w
}

// waitLocked returns once the API says that the state is locked.
func (w *world) waitLocked() {
	w.t.Helper()
	for {
		var s api.Seal
		if _, p := w.tryAPI("GET", "/seal", nil, &s); p == nil && s.State == api.SealLocked {
			return
		}
		if w.t.Context().Err() != nil {
			w.t.Fatal("it is not locked")
		}
	}
}

func TestLock(t *testing.T) {
	w := lockable(t)
	auto := w.key(automatic("devs"))
	alice := w.machine()
	alice.enrol(auto.Secret, "alice")
	st := alice.stream()
	identity, err := os.ReadFile(filepath.Join(w.dir, seal.IdentityName))
	if err != nil {
		t.Fatal(err)
	}
	closed, before := w.store, w.lastRecord()
	w.api("POST", "/seal/lock", nil, nil)
	w.waitLocked()
	if b := st.bye(); b.Code != wire.ByeRestart {
		t.Errorf("the stream ends with %+v", b)
	}
	if _, err := closed.Org(t.Context()); err == nil {
		t.Error("the store is still open")
	}
	if _, err := store.Open(t.Context(), w.dir); !errors.Is(err, store.ErrLocked) {
		t.Errorf("somebody else opens a locked state: %v", err)
	}
	refused := 0
	for _, call := range [][2]string{{"GET", "/systems"}, {"POST", "/keys"}, {"GET", "/whoami"}, {"GET", "/activity/stream"}, {"POST", "/seal/lock"},
		{"POST", "/backup"}, {"GET", "/docs"}, {"GET", "/nowhere"}} {
		if _, p := w.tryAPI(call[0], call[1], nil, nil); p == nil || p.Status != http.StatusServiceUnavailable || p.Code != api.CodeSealed {
			t.Errorf("%s %s: %+v", call[0], call[1], p)
		}
		refused++
	}
	if _, p := alice.tryEnrol(alice.request(auto.Secret, "alice")); p == nil || p.Status != 503 || p.Code != api.CodeSealed {
		t.Errorf("an agent: %+v", p)
	}
	none := http.Header{"Authorization": {"Bearer " + string(admin.NewToken())}}
	url := "https://" + w.addr + admin.Prefix + "/seal/unlock"
	if _, p := do(t, w.calls, "POST", url, none, api.Unlock{Identity: string(identity)}, nil); p == nil || p.Status != http.StatusUnauthorized {
		t.Errorf("without a token that counts: %+v", p)
	}
	_, other, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []struct {
		in   any
		code string
	}{{api.Unlock{Identity: other}, api.CodeWrongKey}, {api.Unlock{}, api.CodeInvalid}, {api.Unlock{Identity: "x"}, api.CodeInvalid},
		{map[string]int{"identity": 1}, api.CodeBadRequest}, {map[string]string{"more": "1"}, api.CodeBadRequest}} {
		if _, p := w.tryAPI("POST", "/seal/unlock", wrong.in, nil); p == nil || p.Code != wrong.code {
			t.Errorf("unlock with %v: %+v", wrong.code, p)
		}
	}
	w.waitLocked()
	w.api("POST", "/seal/unlock", api.Unlock{Identity: string(identity)}, nil)
	var list api.Page[api.System]
	w.api("GET", "/systems", nil, &list)
	if len(list.Items) != 1 {
		t.Errorf("%d systems", len(list.Items))
	}
	if _, p := w.tryAPI("POST", "/seal/unlock", api.Unlock{Identity: string(identity)}, nil); p == nil || p.Code != api.CodeConflict {
		t.Errorf("unlock what is not locked: %+v", p)
	}
	alice.stream()
	for _, action := range []string{"seal.lock", "seal.unlock"} {
		if list, err := w.store.Audit(t.Context(), store.AuditQuery{After: before, Action: action}); err != nil || len(list) != 1 ||
			list[0].Actor != "token:root" || list[0].Request == "" {
			t.Errorf("%s: %d records, %v", action, len(list), err)
		}
	}
	t.Logf("%d routes refused while locked", refused)
}

// TestNotLockable: a server that did not open its state says so.
func TestNotLockable(t *testing.T) {
	w := newWorld(t)
	if _, p := w.tryAPI("POST", "/seal/lock", nil, nil); p == nil || p.Code != api.CodeConflict {
		t.Errorf("%+v", p)
	}
}

func TestRotateOverTheAPI(t *testing.T) {
	w := newWorld(t)
	w.api("POST", "/seal/rotate", nil, nil)
	for {
		var s api.Seal
		w.api("GET", "/seal", nil, &s)
		if r := s.Rotation; r != nil && r.Ended != nil {
			if r.Error != "" || s.Root != 2 || r.Root != 2 || r.Done != r.Total || r.PauseMicros == 0 {
				t.Errorf("%+v of %+v", r, s)
			}
			return
		}
	}
}

func TestBackupOverTheAPI(t *testing.T) {
	w := newWorld(t)
	w.key(automatic("devs"))
	id, _, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := json.Marshal(api.BackupOrder{Recipients: []string{id.Recipient.String()}})
	req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+w.addr+admin.Prefix+"/backup", bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Authorization": {"Bearer " + string(w.token)}, "Content-Type": {"application/json"}}
	before := w.lastRecord()
	resp, err := w.client(nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %.200s", resp.Status, err, raw)
	}
	w.wantOneRecord("backup-create", before, resp.Header.Get(admin.RequestHeader))
	var head backup.Head
	if err := json.Unmarshal([]byte(resp.Header.Get(admin.BackupHeader)), &head); err != nil || head.Pages == 0 {
		t.Errorf("head %+v, %v", head, err)
	}
	out, err := store.VerifyBackup(t.Context(), bytes.NewReader(raw), t.TempDir(), store.RestoreConfig{Identities: []seal.Identity{id}, At: time.Now()})
	if err != nil || out.Head.Audit != head.Audit {
		t.Errorf("%+v, %v", out, err)
	}
	// What cannot be recorded is not given out, not a byte of it.
	w.full.Store(true)
	if resp, p := w.tryAPI("POST", "/backup", api.BackupOrder{}, nil); p == nil || resp.Header.Get(admin.BackupHeader) != "" {
		t.Errorf("without a record: %s, %+v", resp.Status, p)
	}
	w.full.Store(false)
	for _, wrong := range []string{"age1x", strings.Repeat("a", 100)} {
		if _, p := w.tryAPI("POST", "/backup", api.BackupOrder{Recipients: []string{wrong}}, nil); p == nil || p.Code != api.CodeInvalid {
			t.Errorf("recipient %q: %+v", wrong, p)
		}
	}
}
