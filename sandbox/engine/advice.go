package engine

import (
	"context"
	"encoding/json"
	"errors"

	"enclave/sandbox"
	"enclave/sandbox/score"
)

// advice asks the host for a second opinion, before anything of the script runs. It
// implements score.Second.
type advice struct {
	ctx     context.Context //nolint:containedctx // lives for one question
	host    Host
	answers <-chan Answer
}

var errNoAdvice = errors.New("no second opinion")

func (a *advice) Opinion(f score.Features) (v score.Verdict, err error) {
	text, err := json.Marshal(f)
	if err != nil {
		return v, err
	}
	a.host.Call(sandbox.Call{Name: sandbox.OpinionCall, Args: text})
	for {
		select {
		case got := <-a.answers:
			if got.ID != 0 {
				continue
			}
			if got.Error != nil {
				return v, errNoAdvice
			}
			return v, json.Unmarshal(got.Value, &v)
		case <-a.ctx.Done():
			return v, errNoAdvice
		}
	}
}
