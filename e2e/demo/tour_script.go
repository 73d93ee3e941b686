package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"enclave/tui/tour"
)

// scriptStage: a script of an AI does its work and tries to get out.
type scriptStage struct {
	*Tour
	plain
	told []string
}

// The two that are only after the machine: one says so, one hides it until it runs.
const (
	plainEscape = `const read = require("fs").readFileSync;
return eval("read('/etc/passwd')");`
	hiddenEscape = `const parts = ["con", "struc", "tor"];
return [][parts.join("")][parts.join("")]("return process")();`
)

func (*scriptStage) step() tour.Step {
	return tour.Step{Title: "a script tries to escape", Do: "ctrl+g runs three scripts that an AI might have written: two are after this machine, one after more of the overlay than tcp/8080 of db, which is all that policy gives it."}
}

func (s *scriptStage) enter(ctx context.Context) error {
	s.told = nil
	if _, err := s.API.Policy(ctx, scriptsMay); err == nil {
		return nil
	}
	return s.allowScripts(ctx)
}

func (s *scriptStage) act(ctx context.Context) error {
	_, res, _, err := s.runScript(ctx, plainEscape)
	if err != nil {
		return err
	}
	if res.OK || len(res.Findings) == 0 {
		return fmt.Errorf("a script that evaluates text was not refused: %s", res.Value)
	}
	first := fmt.Sprintf("One that reads /etc/passwd was refused before it ran: %s in line %d.", res.Findings[0].Code, res.Findings[0].Line)
	_, res, _, err = s.runScript(ctx, hiddenEscape)
	if err != nil {
		return err
	}
	if res.OK || res.Error == nil {
		return fmt.Errorf("a script made code out of text: %s", res.Value)
	}
	second := "One that hid it was ended as it tried: " + res.Error.Message + "."
	began := time.Now()
	run, res, seen, err := s.runScript(ctx, theScript)
	if err != nil {
		return err
	}
	if !res.OK {
		return res.Error
	}
	var out struct{ Names, Tried []string }
	if err := json.Unmarshal(res.Value, &out); err != nil {
		return err
	}
	if len(out.Tried) != 2 {
		return fmt.Errorf("of what policy forbids it got something: %s", res.Value)
	}
	s.told = []string{
		fmt.Sprintf("%s was a system with tags %s for %s. It read %s; the database's own port was denied, and pod-1 unknown to it.", run, seen.Tags, ms(time.Since(began)), strings.Join(out.Names, ", ")),
		first, second, "Screen 6 has what each did, under its own name."}
	return nil
}

func (s *scriptStage) look(context.Context) (tour.Sight, error) {
	if s.told == nil {
		return tour.Sight{Action: "run the scripts"}, nil
	}
	return tour.Sight{Done: true, Action: "run them again", Lines: s.told}, nil
}
