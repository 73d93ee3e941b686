package pool

import (
	"encoding/json"
	"strconv"

	"enclave/sandbox"
	"enclave/sandbox/jail"
)

// A worker writes two frames in each run, and starts for one run only. To write a type for
// the first time, encoding/json looks at all types in it, which takes a worker longer than
// most scripts do; so the bodies that nearly all runs have are put together here. They
// are what encoding/json would write (TestBodiesAreAsEncodingWrites).

// readyBody is the body of the ready frame. The names of walls need no escapes.
func readyBody(walls jail.Walls) json.RawMessage {
	b := strconv.AppendInt([]byte(`{"version":`), frameVersion, 10)
	b = append(b, `,"walls":[`...)
	for i, w := range walls {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), w...), '"')
	}
	return append(b, "]}"...)
}

// endBody is what to write as the result: its body, or itself if it failed, if there is
// something to say about the script, or if its value is no JSON, which encoding/json refuses
// and which could be some with what is around it.
func endBody(r sandbox.Result) any {
	v := r.Verdict
	if r.Error != nil || len(r.Findings) > 0 || (len(r.Value) > 0 && !json.Valid(r.Value)) || (v != nil && (v.Signals == nil || len(v.Signals) > 0)) {
		return r
	}
	b := strconv.AppendBool([]byte(`{"ok":`), r.OK)
	if len(r.Value) > 0 {
		b = append(append(b, `,"value":`...), r.Value...)
	}
	s := &r.Stats
	number := func(name string, n int64) { b = strconv.AppendInt(append(b, name...), n, 10) }
	number(`,"stats":{"durationNs":`, int64(s.Duration))
	number(`,"cpuNs":`, int64(s.CPU))
	number(`,"iterations":`, s.Iterations)
	number(`,"toolCalls":`, int64(s.ToolCalls))
	number(`,"outputBytes":`, s.Output)
	number(`,"memoryBytes":`, s.Memory)
	b = append(strconv.AppendBool(append(b, `,"reusedWorker":`...), s.Reused), '}')
	if v != nil {
		number(`,"verdict":{"score":`, int64(v.Score))
		b = append(append(append(b, `,"action":"`...), v.Action...), `","signals":[]}`...)
	}
	return json.RawMessage(append(b, '}'))
}
