package cli

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSandboxRun(t *testing.T) {
	s := newShell(t)
	s.in = "console.log('seen'); return {a: [1, 2].map(x => x + 1)}"
	out, errs, exit := s.run("sandbox", "run", "-", "--level", "strict", "--allow-weak-walls")
	if exit != exitOK || out != "{\n  \"a\": [\n    2,\n    3\n  ]\n}\n" || !strings.Contains(errs, "seen") {
		t.Errorf("exit %d, out %q, errs %q", exit, out, errs)
	}
	s.in = `return ["\u001b[2J\u009b31m\u202ecba"]`
	out, _, exit = s.run("sandbox", "run", "-", "--allow-weak-walls")
	if want := "[\n  \"\\u001b[2J\\u009b31m\\u202ecba\"\n]\n"; exit != exitOK || out != want {
		t.Errorf("a value that steers a terminal: exit %d, out %q, want %q", exit, out, want)
	}
	s.in = "const a = 1;\nreturn a.b.c"
	out, errs, exit = s.run("sandbox", "run", "-")
	if exit != exitRefused || out != "" || !strings.Contains(errs, "TypeError") || !strings.Contains(errs, "2 | return a.b.c") || !strings.Contains(errs, "<stdin>:2:") {
		t.Errorf("exit %d, out %q, errs %q", exit, out, errs)
	}
	s.in = "for (let i = 0; i < 500; i++) {}; return 1"
	out, _, exit = s.run("sandbox", "run", "-", "--iterations", "100", "--json")
	var res struct {
		OK    bool
		Error struct{ Code string }
		Stats struct{ Iterations int }
	}
	if err := json.Unmarshal([]byte(out), &res); err != nil || exit != exitRefused || res.OK || res.Error.Code != "ITERATION_LIMIT" || res.Stats.Iterations != 100 {
		t.Errorf("exit %d, %v, out %q", exit, err, out)
	}
	for _, args := range [][]string{{"--timeout", "99h"}, {"--level", "x"}, {"--gate", "x"}, {"--memory", "99999"}} {
		if _, errs, exit := s.run(append([]string{"sandbox", "run", "-"}, args...)...); exit != exitUsage {
			t.Errorf("%v: exit %d, %s", args, exit, errs)
		}
	}
}

func TestSandboxDoctor(t *testing.T) {
	s := newShell(t)
	out, errs, exit := s.run("sandbox", "doctor", "--json")
	var r struct {
		Walls, Missing []string
		Enough         bool
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Walls) == 0 || r.Enough != (exit == exitOK) {
		t.Errorf("exit %d, %v, out %q, errs %q", exit, err, out, errs)
	}
}
