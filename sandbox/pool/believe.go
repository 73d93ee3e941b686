package pool

import (
	"bytes"
	"encoding/json"
	"errors"

	"enclave/sandbox"
	"enclave/sandbox/score"
	"enclave/sandbox/script"
)

// What is kept of a worker's result. Honest ones say less; the rest of a list is not even
// decoded, since a list of "null" in a frame is twenty times its size in memory.
const (
	maxFindings = 200
	maxSignals  = 64
)

// ending is the body of an end frame as the parent reads it.
type ending struct {
	sandbox.Result
	Findings few[sandbox.Finding] `json:"findings"`
	Verdict  *struct {
		Score   int               `json:"score"`
		Action  score.Action      `json:"action"`
		Signals few[score.Signal] `json:"signals"`
	} `json:"verdict"`
}

// few is a list of which maxFindings are read.
type few[T any] []T

// UnmarshalJSON reads the first of a list.
func (f *few[T]) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	t, err := d.Token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('[') {
		return errors.New("no list")
	}
	*f = few[T]{}
	for d.More() && len(*f) < maxFindings {
		var one T
		if err := d.Decode(&one); err != nil {
			return err
		}
		*f = append(*f, one)
	}
	return nil
}

// parseEnding reads the body of an end frame.
func parseEnding(body []byte) (sandbox.Result, error) {
	var e ending
	if err := parse(body, &e); err != nil {
		return sandbox.Result{}, err
	}
	res := e.Result
	for _, f := range e.Findings {
		f.Rule, f.Code, f.Message = label(f.Rule), label(f.Code), clean(sandbox.Short(f.Message))
		if f.Severity != script.Warning {
			f.Severity = script.Refused
		}
		f.Line, f.Column, f.Length = max(f.Line, 0), max(f.Column, 0), max(f.Length, 0)
		res.Findings = append(res.Findings, f)
	}
	if v := e.Verdict; v != nil {
		res.Verdict = &score.Verdict{Score: min(max(v.Score, 0), 100), Action: score.Action(label(string(v.Action)))}
		if v.Signals != nil {
			res.Verdict.Signals = []score.Signal{}
		}
		for _, s := range v.Signals[:min(len(v.Signals), maxSignals)] {
			s.Name, s.Detail, s.Line = label(s.Name), clean(sandbox.Short(s.Detail)), max(s.Line, 0)
			res.Verdict.Signals = append(res.Verdict.Signals, s)
		}
	}
	return res, nil
}

// label is a short text of one word.
func label(s string) string { return clean(s[:min(len(s), 64)]) }
