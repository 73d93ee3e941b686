package tools

import (
	"context"
	"encoding/json"
	"reflect"
	"time"
)

// canned answers from the file.
type canned struct {
	result json.RawMessage
	err    string
	delay  time.Duration
	cases  []cannedCase
}

type cannedCase struct {
	when   map[string]any
	result json.RawMessage
}

func newCanned(c *Canned) (*canned, error) {
	out := &canned{result: c.Result, err: c.Error, delay: time.Duration(c.Delay)}
	for _, one := range c.Cases {
		when := make(map[string]any, len(one.When))
		for k, text := range one.When {
			v, err := decode(text)
			if err != nil {
				return nil, err
			}
			when[k] = v
		}
		out.cases = append(out.cases, cannedCase{when, one.Result})
	}
	return out, nil
}

func (c *canned) call(ctx context.Context, args map[string]any, _ callInfo) (any, error) {
	if c.delay > 0 {
		timer := time.NewTimer(c.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	text := c.result
	for _, one := range c.cases {
		if within(one.when, args) {
			text = one.result
			break
		}
	}
	if c.err != "" && text == nil {
		return nil, failure(Failed, nil, "%s", c.err)
	}
	if text == nil {
		return nil, nil
	}
	return decode(text)
}

func within(when, args map[string]any) bool {
	for k, v := range when {
		if have, ok := args[k]; !ok || !reflect.DeepEqual(have, v) {
			return false
		}
	}
	return true
}
