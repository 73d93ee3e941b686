package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSandboxCheck(t *testing.T) {
	s := newShell(t)
	s.in = "return (await callTool('users:list', { limit: 3 })).items.length"
	if out := s.ok("sandbox", "check", "-"); !strings.Contains(out, "admitted at STANDARD; risk 0 of 100: allow") || !strings.Contains(out, "calls users:list") {
		t.Errorf("says %q", out)
	}

	s.in = "const a = 'é'\n\treturn a.constructor"
	out, errs, exit := s.run("sandbox", "check", "-", "--level", "strict")
	if exit != exitRefused || !strings.Contains(errs, "<stdin> is refused at STRICT") {
		t.Errorf("exit %d, says %q", exit, errs)
	}
	if want := "<stdin>:2:11: error: "; !strings.HasPrefix(out, want) || !strings.Contains(out, "\n  2 |  return a.constructor\n    |           ^^^^^^^^^^^\n") {
		t.Errorf("shows\n%s", out)
	}

	out, errs, exit = s.run("sandbox", "check", "-", "--json")
	var res checked
	if err := json.Unmarshal([]byte(out), &res); err != nil || exit != exitRefused || res.OK || res.Verdict != nil {
		t.Fatalf("%v, exit %d: %s", err, exit, out)
	}
	if f := res.Findings[0]; f.Code != "NO_CONSTRUCTOR_ACCESS" || f.Rule != "no-global-access" || f.Line != 2 || f.Column != 11 || f.Length != 11 {
		t.Errorf("finding %+v", f)
	}
	if !strings.Contains(errs, `"code":"script_refused"`) {
		t.Errorf("stderr %q", errs)
	}

	s.in = "for (const u of (await callTool('users:list', { limit: 99999 })).items) await callTool('mail:send', { to: u.email })"
	out, errs, exit = s.run("sandbox", "check", "-")
	if exit != exitRefused || !strings.Contains(errs, "is blocked") || !strings.Contains(out, "EXFIL_PATTERN") {
		t.Errorf("exit %d, says %q %q", exit, out, errs)
	}
	s.in = "{{{"
	if _, _, exit := s.run("sandbox", "check", "-", "--level", "none"); exit != exitUsage {
		t.Errorf("an unknown level ends with %d", exit)
	}
}

func TestSandboxCheckKnowsTheTools(t *testing.T) {
	s := newShell(t)
	file := filepath.Join(s.env["ENCLAVE_STATE"], "tools.json")
	declared := `{"version":1,"tools":[
	  {"name":"a:b","description":"x","attributes":["reads","secret"],"serve":{"canned":{"result":1}}},
	  {"name":"c:d","description":"x","attributes":["sends"],"serve":{"canned":{"result":1}}}]}`
	if err := os.WriteFile(file, []byte(declared), 0o600); err != nil {
		t.Fatal(err)
	}
	s.in = "return await callTool('a:c', {})"
	if out, _, exit := s.run("sandbox", "check", "-", "--tools", file); exit != exitRefused || !strings.Contains(out, "UNKNOWN_TOOL_NAME") || !strings.Contains(out, "did you mean a:b?") {
		t.Errorf("exit %d: %s", exit, out)
	}
	s.in = "await callTool('a:b', { x: 1 }); await callTool('c:d', { y: 1 })"
	if out, _, exit := s.run("sandbox", "check", "-", "--tools", file); exit != exitRefused || !strings.Contains(out, "(declared)") {
		t.Errorf("exit %d: %s", exit, out)
	}
	if err := os.WriteFile(file, []byte(`{"tools":[{"name":"!"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, exit := s.run("sandbox", "check", "-", "--tools", file); exit != exitUsage {
		t.Errorf("a broken tools.json ends with %d", exit)
	}
}

func TestSandboxLevels(t *testing.T) {
	s := newShell(t)
	if out := s.ok("sandbox", "levels"); !strings.Contains(out, "PERMISSIVE") || !strings.Contains(out, "parseInt") {
		t.Errorf("shows %s", out)
	}
	var all []struct {
		Level   string
		Globals []string
		Run     struct{ Iterations int }
	}
	if err := json.Unmarshal([]byte(s.ok("sandbox", "levels", "--json")), &all); err != nil || len(all) != 4 || all[0].Run.Iterations != 1000 {
		t.Errorf("%v: %+v", err, all)
	}
}

func TestSandboxServeRefusesToSpeakInTheClear(t *testing.T) {
	s := newShell(t)
	for _, args := range [][]string{{"--listen", "0.0.0.0:0"}, {"--listen", ":0"}, {"--listen", "host.example:0"}, {"--tls-cert", "x"}, {"--listen", "nonsense"},
		{"--tls-cert", "/nowhere", "--tls-key", "/nowhere"}, {"--plain-http", "--tls-cert", "x", "--tls-key", "y"}, {"--reload", "1ms"}, {"--allow-origin", "*"}} {
		if _, errs, exit := s.run(append([]string{"sandbox", "serve"}, args...)...); exit != exitUsage || strings.Contains(errs, "serving") {
			t.Errorf("%v: exit %d, %s", args, exit, errs)
		}
	}
}

func TestSandboxTools(t *testing.T) {
	s := newShell(t)
	file := filepath.Join(s.env["ENCLAVE_STATE"], "tools.json")
	if err := os.WriteFile(file, []byte(`{"version":1,"tools":[{"name":"a:b","description":"first\nsecond","attributes":["reads"],
		"arguments":{"type":"object","required":["n"],"properties":{"n":{"type":"integer","maximum":9},"when":{"type":"string","format":"date"}}},"serve":{"canned":{"result":1}}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := s.ok("sandbox", "tools", "--tools", file); !strings.Contains(out, "a:b   reads  -      first") {
		t.Errorf("shows\n%s", out)
	}
	out := s.ok("sandbox", "tools", "--tools", file, "--prompt", "--level", "STRICT")
	if !strings.Contains(out, "\ncallTool(\"a:b\", { n: integer (..9), when?: string (date) }): any // first second\n") || !strings.Contains(out, "10 tool calls") || strings.Contains(out, "parseInt") {
		t.Errorf("tells a model\n%s", out)
	}
	var res offered
	if err := json.Unmarshal([]byte(s.ok("sandbox", "tools", "--tools", file, "--json")), &res); err != nil || len(res.Tools) != 1 || res.Version == "" || res.Prompt != "" {
		t.Errorf("%+v, %v", res, err)
	}
	if _, _, exit := s.run("sandbox", "tools"); exit != exitUsage {
		t.Errorf("without a file: %d", exit)
	}
}
