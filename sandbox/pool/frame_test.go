package pool

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"enclave/sandbox"
	"enclave/sandbox/engine"
)

func TestFrames(t *testing.T) {
	b, err := appendFrame(nil, kindCall, sandbox.Call{ID: 1, Name: "a", Args: json.RawMessage(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	k, body, err := readFrame(bytes.NewReader(b))
	if err != nil || k != kindCall || string(body) != `{"id":1,"name":"a","args":{}}` {
		t.Errorf("got %c %s, %v", k, body, err)
	}
	for n := range b {
		if _, _, err := readFrame(bytes.NewReader(b[:n])); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	for _, tc := range []struct {
		head string
		want error
	}{{"\x00\x00\x00\x01?", errKind}, {"\x00\x00\x00\x00C", errLarge}, {"\xff\xff\xff\xffC", errLarge}, {"\x00\x10\x00\x00W", errLarge}} {
		if _, _, err := readFrame(strings.NewReader(tc.head)); err != tc.want {
			t.Errorf("%q: %v, want %v", tc.head, err, tc.want)
		}
	}
	if _, err := appendFrame(nil, kindLine, sandbox.Line{Text: strings.Repeat("x", 1<<20)}); err != errLarge {
		t.Errorf("a line of 1 MiB: %v", err)
	}
	var l sandbox.Line
	for _, bad := range []string{"", "{", `{"stream":1}`, `{"text":"a"} `, `{"text":"a"}{}`, `{"other":1}`} {
		if parse([]byte(bad), &l) == nil {
			t.Errorf("parsed %q", bad)
		}
	}
}

// seeds are frames of every kind, both ways.
func seeds(f *testing.F) {
	for k, v := range map[kind]any{
		kindRun: sandbox.Spec{Source: "return 1"}, kindAnswer: engine.Answer{ID: 1, Value: json.RawMessage(`1`)},
		kindReady: ready{Version: 1, Walls: []string{"process"}}, kindCall: sandbox.Call{ID: 1, Name: "a", Args: json.RawMessage(`{}`)},
		kindLine: sandbox.Line{Stream: sandbox.StreamOut, Text: "x"}, kindEnd: sandbox.Result{Error: sandbox.Errorf(sandbox.CodeScript, "x")},
	} {
		b, err := appendFrame(nil, k, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// FuzzFromWorker reads what a compromised worker might write.
func FuzzFromWorker(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		run := &running{spec: sandbox.Spec{Limits: sandbox.LimitsOf(sandbox.Strict)}, broker: &echo{}}
		for {
			k, body, err := readFrame(r)
			if err != nil {
				return
			}
			switch k {
			case kindLine:
				var l sandbox.Line
				if parse(body, &l) == nil {
					run.line(l)
				}
			case kindCall:
				var c sandbox.Call
				if parse(body, &c) == nil && run.call(t.Context(), c) {
					t.Fatal("a call of a tool that was not offered")
				}
			case kindEnd:
				res, err := parseEnding(body)
				if err != nil {
					continue
				}
				res = run.believe(res)
				if res.OK != (res.Error == nil) || res.Error != nil && (!res.Error.Code.Valid() || len(res.Error.Message) > sandbox.MaxErrorText) {
					t.Fatalf("believed %+v", res)
				}
				if _, err := json.Marshal(res); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// FuzzToWorker reads what a worker might be sent.
func FuzzToWorker(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		k, body, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		var s sandbox.Spec
		var a engine.Answer
		switch {
		case k == kindRun && parse(body, &s) == nil:
			again, err := appendFrame(nil, k, s)
			if err != nil {
				return // larger once written in full
			}
			if k2, body2, err := readFrame(bytes.NewReader(again)); err != nil || k2 != k || parse(body2, &s) != nil {
				t.Fatalf("written again it does not read: %v", err)
			}
		case k == kindAnswer:
			_ = parse(body, &a)
		}
	})
}
