package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// says fails unless text holds all of these.
func (s *shell) says(text string, want ...string) {
	s.t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			s.t.Errorf("no %q in\n%s", w, text)
		}
	}
}

func TestPoliciesAreChangedFieldByField(t *testing.T) {
	s := newSite(t, nil)
	s.mustEnrol("laptop")
	s.mustEnrol("web")
	s.ok("tag", "add", "laptop", "laptops")
	s.ok("tag", "add", "web", "servers")
	s.ok("policy", "create", "Web", "--from", "laptops", "--to", "servers", "--allow", "tcp/80", "--hours", "mon-sun 00:00-24:00 UTC")
	if r := s.refused(exitRefused, "policy", "create", "Web", "--from", "laptops", "--to", "servers", "--allow", "any"); r.Code != api.CodeConflict || !strings.Contains(r.Message, `"Web"`) {
		t.Errorf("%+v", r)
	}
	s.says(s.ok("policy", "update", "Web", "--allow", "tcp/80", "--allow", "icmp", "--dry-run"), "+ laptop → web icmp  (policy Web, rule 1)")
	if out := s.ok("policy", "show", "Web"); strings.Contains(out, "icmp") {
		t.Errorf("the dry run has changed it: %s", out)
	}
	s.ok("policy", "update", "Web", "--allow", "icmp", "--expires", "2099-12-24 18:00 Europe/Berlin", "--expiry-action", "delete", "--name", "Ping", "--wait")
	s.says(s.ok("policy", "show", "Ping"), "icmp", "2099-12-24 18:00 Europe/Berlin, then deleted", "mon,tue,wed")
	s.ok("policy", "update", "Ping", "--expires", "never", "--hours", "")
	if out := s.ok("policy", "show", "Ping"); strings.Contains(out, "2099") || strings.Contains(out, "mon,tue") {
		t.Errorf("it still ends, or has hours: %s", out)
	}
	s.refused(exitUsage, "policy", "update", "Ping")
	s.refused(exitUsage, "policy", "update", "Ping", "--allow", "tcp/0", "--expires", "yesterday")
	s.refused(exitNotFound, "policy", "update", "Web", "--notes", "x")

	s.says(s.ok("policy", "history"), " (Ping) ")
	s.says(s.ok("audit", "list"), " (Ping) ")
	history := s.ok("policy", "history", "--json")
	var revs []api.RevisionEntry
	if err := json.Unmarshal([]byte(history), &revs); err != nil || len(revs) < 3 {
		t.Fatalf("%v in %s", err, history)
	}
	first, last := num(int(revs[len(revs)-1].Revision)), num(int(revs[0].Revision))
	s.says(s.ok("policy", "compare", first, last), `~ policy "Ping"`, `name: "Web" → "Ping"`, "acls: ", " is gone")
	s.says(s.ok("policy", "compare", last), "is that of")
	for _, bad := range []string{"0", "x", "1.5", "99999999999999999999"} {
		s.refused(exitUsage, "policy", "compare", bad)
	}
	s.refused(exitNotFound, "policy", "compare", "4711")
}

func TestPoliciesAreEdited(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the editors of this test are shell scripts")
	}
	s := newSite(t, nil)
	s.mustEnrol("laptop")
	s.ok("tag", "add", "laptop", "laptops", "servers")
	s.ok("policy", "create", "Web", "--from", "laptops", "--to", "servers", "--allow", "tcp/80")
	s.refused(exitUsage, "policy", "edit", "Web")
	s.terminal = true
	editor := func(script string) {
		t.Helper()
		file := filepath.Join(privateDir(t), "editor")
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
		s.env["EDITOR"] = file
	}
	editor(`sed -i 's/ports: "80"/ports: "81"/' "$1"`)
	s.says(s.ok("policy", "edit", "Web", "--dry-run"), "0 gained, 0 lost")
	if out := s.ok("policy", "show", "Web"); !strings.Contains(out, "tcp/80") {
		t.Errorf("the dry run has changed it: %s", out)
	}
	s.says(s.ok("policy", "edit", "Web"), "updated Web")
	s.says(s.ok("policy", "show", "Web"), "tcp/81")

	editor("exit 0\n")
	if _, errs, exit := s.run("policy", "edit", "Web"); exit != exitOK || errs != "nothing changed\n" {
		t.Errorf("exit %d, %q", exit, errs)
	}
	// A mistake opens the editor again and is told there; the second attempt mends it.
	editor(`if grep -q '^# ! acls\[0\].ports: ' "$1"; then sed -i 's/ports: .*/ports: "82"/' "$1"; else sed -i 's/ports: .*/ports: "99-1"/' "$1"; fi`)
	s.says(s.ok("policy", "edit", "Web"), "updated Web")
	s.says(s.ok("policy", "show", "Web"), "tcp/82")
	editor("exit 3\n")
	if r := s.refused(exitUsage, "policy", "edit", "Web"); !strings.Contains(r.Message, "exit status 3") {
		t.Errorf("%+v", r)
	}
}

func TestTokensAreShownOnce(t *testing.T) {
	s := newSite(t, nil)
	file := filepath.Join(privateDir(t), "ci.token")
	const nothing = "0 gained, 0 lost"
	s.says(s.ok("token", "create", "ci", "--scope", "read", "--out", file, "--dry-run"), nothing)
	if _, err := os.Stat(file); err == nil {
		t.Error("a dry run has left a file")
	}
	out := s.ok("token", "create", "ci", "--scope", "read", "--expires", "1h", "--out", file)
	if strings.Contains(out, "enctok_") {
		t.Errorf("the secret is printed: %s", out)
	}
	if info, err := os.Stat(file); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	s.terminal = true
	s.says(s.ok("token", "create", "other", "--scope", "admin"), "enctok_", "once")
	s.terminal = false
	// A file that is there keeps what it holds, and no token is made for it; one that could
	// not be made leaves no file, and nothing beside it.
	held, _ := os.ReadFile(file)
	for _, more := range [][]string{{}, {"--dry-run"}} {
		r := s.refused(exitUsage, append([]string{"token", "create", "third", "--scope", "read", "--out", file}, more...)...)
		if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, held) || !strings.Contains(r.Message, "exists") {
			t.Errorf("%+v; the file holds %d bytes of %d, %v", r, len(now), len(held), err)
		}
	}
	s.refused(exitRefused, "token", "create", "other", "--scope", "read", "--out", filepath.Join(filepath.Dir(file), "other.token"))
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("files left: %v, %v", left, err)
	}
	if out := s.ok("token", "list"); strings.Contains(out, "third") {
		t.Errorf("a token was made that nobody has: %s", out)
	}
	if out := s.ok("token", "list", "--json"); strings.Contains(out, "enctok_") || !strings.Contains(out, `"name":"ci"`) {
		t.Errorf("%s", out)
	}
	s.env["ENCLAVE_TOKEN_FILE"], s.env["ENCLAVE_URL"], s.env["ENCLAVE_CA_FINGERPRINT"] = file, s.url, s.fingerprint
	s.ok("policy", "list")
	s.refused(exitForbidden, "policy", "create", "x", "--from", "a", "--to", "b", "--allow", "any")
	s.refused(exitForbidden, "token", "list")
	delete(s.env, "ENCLAVE_TOKEN_FILE")
	s.says(s.ok("token", "revoke", "ci", "--dry-run"), nothing)
	s.says(s.ok("token", "list"), "ci")
	s.ok("token", "revoke", "ci", "--reason", "it leaked")
	s.says(s.ok("audit", "list"), "it leaked")
	s.env["ENCLAVE_TOKEN_FILE"] = file
	s.refused(exitSignIn, "policy", "list")
	delete(s.env, "ENCLAVE_TOKEN_FILE")
	s.refused(exitUsage, "token", "create", "x")
	s.refused(exitUsage, "token", "create", "x", "--scope", "god")
	s.refused(exitUsage, "token", "create", "x", "--scope", "read", "--out", filepath.Join(file, "no"))
	s.refused(exitRefused, "token", "create", "other", "--scope", "read")
	s.refused(exitNotFound, "token", "revoke", "nobody")
}

// What a shell writes into a file is what an agent or a login reads from it; --out makes
// such a file that nobody else may read.
func TestSecretsMayGoIntoFiles(t *testing.T) {
	s := newSite(t, nil)
	for _, verb := range [][]string{{"key", "create", "k"}, {"token", "create", "t", "--scope", "read"}} {
		if out := s.ok(verb...); strings.Count(out, "\n") != 1 || strings.Contains(out, " ") {
			t.Errorf("%v > FILE writes %q", verb, out)
		}
	}
	s.terminal = true
	s.says(s.ok("key", "create", "seen"), "shown once", "--key-file")
	s.terminal = false
	file := filepath.Join(privateDir(t), "laptops.key")
	s.says(s.ok("key", "create", "laptops", "--out", file, "--dry-run"), "0 gained")
	if _, err := os.Stat(file); err == nil {
		t.Error("a dry run has left a file")
	}
	s.says(s.ok("key", "create", "laptops", "--out", file), "created laptops", file)
	raw, err := os.ReadFile(file)
	if err != nil || len(raw) != 30 {
		t.Fatalf("the file holds %d bytes: %v", len(raw), err)
	}
	if info, err := os.Stat(file); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if r := s.refused(exitUsage, "key", "create", "more", "--out", file); !strings.Contains(r.Message, "exists") {
		t.Errorf("%+v", r)
	}
	if out := s.ok("key", "list"); strings.Contains(out, "more") {
		t.Errorf("a key was made that nobody has: %s", out)
	}
}

func TestRelaysAreRemoved(t *testing.T) {
	s := newSite(t, func(st *store.Store, c store.Change) {
		secret := store.SecretHash{1}
		_, err := st.CreateKey(t.Context(), c, store.KeyParams{Name: "relays", Kind: store.RelayKey, Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = st.EnrolRelay(t.Context(), c.At, store.EnrolRelayParams{Secret: secret, Name: "far", Identity: wire.IdentityKey{1}, Info: wire.RelayInfo{Addr: "relay.example:443"}})
		if err != nil {
			t.Fatal(err)
		}
	})
	var list []api.Relay
	if err := json.Unmarshal([]byte(s.ok("relays", "list", "--json")), &list); err != nil || len(list) != 1 || list[0].Name != "far" {
		t.Fatalf("%+v, %v", list, err)
	}
	id := string(list[0].ID)
	if out, _, _ := s.run("__complete", "relays", "delete", ""); !strings.Contains(out, id+"\tfar relay.example:443") {
		t.Errorf("completes to %s", out)
	}
	s.says(s.ok("relays", "delete", id, "--dry-run"), "0 gained, 0 lost")
	s.says(s.ok("relays", "list"), "far", id)
	s.says(s.ok("relays", "delete", id, "--reason", "it is sold"), "removed "+id)
	s.says(s.ok("audit", "list"), "it is sold", "relay.delete")
	if out := s.ok("relays", "list", "--json"); out != "[]\n" {
		t.Errorf("left: %s", out)
	}
	if r := s.refused(exitNotFound, "relays", "delete", id); !strings.Contains(r.Hint, "relays list") {
		t.Errorf("%+v", r)
	}
}

func TestSystemsAreUpdated(t *testing.T) {
	s := newSite(t, nil)
	s.mustEnrol("web")
	s.ok("system", "update", "web", "--name", "shop", "--notes", "x", "--expires", "2099-12-24 18:00 Europe/Berlin", "--expiry-action", "delete")
	s.says(s.ok("system", "show", "shop"), "2099-12-24 18:00 Europe/Berlin, then deleted")
	s.says(s.ok("forecast", "--days", "30"), "nothing changes")
	s.ok("system", "update", "shop", "--expires", "8h", "--wait")
	s.says(s.ok("forecast"), "system shop expires")
	s.ok("system", "update", "shop", "--expires", "never")
	s.says(s.ok("forecast"), "nothing changes")
	s.refused(exitUsage, "system", "update", "shop")
	s.refused(exitUsage, "system", "update", "shop", "--name", "No Name")
	s.refused(exitUsage, "system", "update", "shop", "--expires", "2020-01-01 00:00 UTC")
	s.refused(exitNotFound, "system", "update", "web", "--notes", "y")
}

// TestRevokingNamesTheKey by which the system could come back, while that lets systems in.
func TestRevokingNamesTheKey(t *testing.T) {
	s := newSite(t, nil)
	for _, name := range []string{"one", "two", "three", "four"} {
		s.mustEnrol(name)
	}
	_, errs, exit := s.run("system", "revoke", "one")
	_, id, _ := strings.Cut(errs, "enclave key disable ")
	id, _, _ = strings.Cut(id, `"`)
	if exit != exitOK || !strings.HasPrefix(errs, "warning: the enrolment key "+id+" (") || id == "" {
		t.Fatalf("exit %d, %q", exit, errs)
	}
	s.says(s.ok("system", "revoke", "two", "--json"), `"warnings":["the enrolment key `+id)
	s.ok("system", "revoke", "three", "--dry-run")
	s.ok("key", "disable", id)
	if _, errs, exit := s.run("system", "revoke", "three"); exit != exitOK || errs != "" {
		t.Errorf("a key that is disabled is named: exit %d, %q", exit, errs)
	}
	s.ok("key", "delete", id)
	if _, errs, exit := s.run("system", "revoke", "four"); exit != exitOK || errs != "" {
		t.Errorf("a key that is gone is named: exit %d, %q", exit, errs)
	}
}

// TestExplainNamesWhoIsAway: where policy lets a flow pass, it is not what is in its way.
func TestExplainNamesWhoIsAway(t *testing.T) {
	s := newSite(t, nil)
	s.mustEnrol("web")
	s.mustEnrol("laptop")
	s.ok("tag", "add", "web", "servers")
	s.ok("tag", "add", "laptop", "laptops")
	s.ok("policy", "create", "Web", "--from", "laptops", "--to", "servers", "--allow", "tcp/80")
	const away = "web is not connected"
	s.says(s.ok("explain", "laptop", "web", "tcp/80"), "ALLOW", away, "laptop is not connected")
	for _, args := range [][]string{{"explain", "laptop", "web", "tcp/81"}, {"explain", "laptop", "web", "tcp/80", "--at", "1h"}} {
		if out := s.ok(args...); strings.Contains(out, away) {
			t.Errorf("%v: %s", args, out)
		}
	}
}

// TestStatusNamesWhatIsNotServed starts on a policy that an older program found right.
func TestStatusNamesWhatIsNotServed(t *testing.T) {
	s := newSite(t, func(st *store.Store, c store.Change) {
		good := wire.Policy{Name: "Web", Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"a"}, ReceiverTags: []wire.Tag{"b"}, ACLs: []wire.ACL{{Proto: wire.Any}}}
		p, _, err := st.CreatePolicy(t.Context(), c, good)
		if err != nil {
			t.Fatal(err)
		}
		good.Kind = "of-tomorrow"
		c.At = c.At.Add(time.Second)
		if _, err := st.UpdatePolicy(t.Context(), c, p.ID, good); err != nil {
			t.Fatal(err)
		}
	})
	const says = "serving it as of revision"
	s.says(s.ok("status"), "warning", `"Web" does not validate`, says)
	s.says(s.ok("status", "--json"), `"warnings":[`, says)
	s.says(s.ok("policy", "list"), "active")
	s.says(s.ok("activity"), "policy.refuse")
	s.says(s.log.String(), "a stored policy is not served as it stands", says)
	s.ok("policy", "delete", "Web")
	if out := s.ok("status"); strings.Contains(out, "warning") {
		t.Errorf("%s", out)
	}
}
