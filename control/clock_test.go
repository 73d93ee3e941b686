package control

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"enclave/control/admin"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// TestClockSetBackWhileDown: a control plane that starts with its clock two hours back
// brings back no token, no key and no hours, goes on with new work, and says so.
func TestClockSetBackWhileDown(t *testing.T) {
	dir, token := t.TempDir()+"/state", admin.NewToken()
	bubbleOn(t, dir, store.DefaultSettings(), func(t *testing.T, w *world) {
		p := direct("mesh", "mesh")
		p.ActiveHours = wire.Windows{{Zone: "UTC", Days: []string{"sat"}, Start: "00:00", End: "01:00"}}
		w.api("POST", "/policies", p, nil)
		_, err := w.store.CreateToken(t.Context(), at(time.Now()), store.TokenParams{Name: "short", Scopes: []string{"read"}, Secret: token.Hash(), ExpiresAt: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if state := stateOfPolicy(w); state != "active" {
			t.Fatal(state)
		}
		time.Sleep(2 * time.Hour)
	})
	bubbleOn(t, dir, store.DefaultSettings(), func(t *testing.T, w *world) {
		if now := time.Now(); now.Hour() != 0 {
			t.Fatalf("the bubble begins at %s", now)
		}
		if state := stateOfPolicy(w); state == "active" {
			t.Error("hours that had ended are back")
		}
		_, refused := do(t, w.calls, "GET", "https://"+w.addr+admin.Prefix+"/whoami", http.Header{"Authorization": {"Bearer " + string(token)}}, nil, nil)
		if refused == nil || refused.Status != http.StatusUnauthorized {
			t.Errorf("a token that had expired: %+v", refused)
		}
		w.key(api.KeyCreate{Name: "new", Tags: []wire.Tag{"mesh"}}) // new work goes on
		var st api.RevisionStatus
		w.api("GET", "/revision", nil, &st)
		if !strings.Contains(strings.Join(st.Warnings, "\n"), "behind since 2000-01-01T0") {
			t.Errorf("nobody is told: %q", st.Warnings)
		}
		var h api.Health
		w.api("GET", "/health", nil, &h)
		if behind := h.Latest.Sub(h.Now); behind < 119*time.Minute || behind > 2*time.Hour || h.BehindSince.IsZero() {
			t.Errorf("%s behind since %s", behind, h.BehindSince)
		}
	})
}

func stateOfPolicy(w *world) string {
	w.t.Helper()
	var list api.Page[api.Policy]
	w.api("GET", "/policies", nil, &list)
	if len(list.Items) != 1 {
		w.t.Fatal(len(list.Items))
	}
	return string(list.Items[0].State)
}
