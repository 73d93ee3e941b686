package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"enclave/store/audit"
	"enclave/tui/tour"
)

// tamperStage: somebody rewrites who did it, and is found out.
type tamperStage struct {
	*Tour
	plain
	told []string
}

func (*tamperStage) step() tour.Step {
	return tour.Step{Title: "tamper with the audit log", Do: "ctrl+g exports the trail, verifies the file, then changes one word in it, as one would to blame somebody else, and verifies it again."}
}

func (s *tamperStage) enter(context.Context) error {
	s.told = nil
	return nil
}

// maxTrail bounds what of the trail is held in memory.
const maxTrail = 64 << 20

func (s *tamperStage) act(ctx context.Context) error {
	cp, err := s.API.AuditCheckpoint(ctx, 0, 0)
	if err != nil {
		return err
	}
	body, err := s.API.ExportAudit(ctx, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	trail, err := io.ReadAll(io.LimitReader(body, maxTrail))
	if err != nil {
		return err
	}
	good, took, err := verified(cp.Key, trail)
	if err != nil {
		return err
	}
	if good.Finding != nil {
		return fmt.Errorf("untouched, it does not verify: %w", good.Finding)
	}
	forged, err := blame(trail)
	if err != nil {
		return err
	}
	bad, again, err := verified(cp.Key, forged)
	if err != nil {
		return err
	}
	if bad.Finding == nil {
		return fmt.Errorf("the change was not noticed")
	}
	names := []string{filepath.Join(s.cfg.Dir, "trail.jsonl"), filepath.Join(s.cfg.Dir, "forged.jsonl"), filepath.Join(s.cfg.Dir, "audit.pub")}
	for i, b := range [][]byte{trail, forged, []byte(cp.Key + "\n")} {
		if err := os.WriteFile(names[i], b, 0o600); err != nil {
			return err
		}
	}
	s.told = []string{
		fmt.Sprintf("After the change, in %s: %s", ms(again), bad.Finding.Why),
		fmt.Sprintf("Before it: %d records verified in %s.", good.Records, ms(took)),
		"By yourself: enclave audit verify " + names[1] + " --key-file " + names[2]}
	return nil
}

// whose is an actor of a change of policy, with what leads to it.
var whose = regexp.MustCompile(`(?m)^(.*"actor":")([^"]+)(",.*"action":"policy\.[^\n]*)$`)

// blame has somebody else be the author of the newest change of policy.
func blame(trail []byte) ([]byte, error) {
	all := whose.FindAllSubmatchIndex(trail, -1)
	if len(all) == 0 {
		return nil, errors.New("no change of policy is in the export")
	}
	m := all[len(all)-1]
	return slices.Concat(trail[:m[4]], []byte("token:mallory"), trail[m[5]:]), nil
}

func verified(key string, trail []byte) (r audit.Report, took time.Duration, err error) {
	v, err := audit.NewVerifier(key, nil, func(int64, int64) {})
	if err != nil {
		return r, 0, err
	}
	began := time.Now()
	if err := v.File(bytes.NewReader(trail)); err != nil {
		return r, 0, err
	}
	return v.Report(), time.Since(began), nil
}

func (s *tamperStage) look(context.Context) (tour.Sight, error) {
	if s.told == nil {
		return tour.Sight{Action: "tamper with it"}, nil
	}
	return tour.Sight{Done: true, Action: "tamper once more", Lines: s.told}, nil
}
