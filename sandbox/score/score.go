// Package score turns what a script looks like into a risk between 0 and 100 with
// named, explained signals, and a verdict: allow, warn or block.
//
// It sees features, never the source. Where tools declare what they do (reads,
// writes, sends, secret), that counts; where they do not, their names are split into
// words and compared with short lists. The rules are pure: same features, same
// verdict. Names of signals and their points are those of AgentScript's scorer
// (docs/format/agentscript.md); each signal says what earned its points, and where.
//
// A score is advice about intent, no wall: what a script can reach is policy.
package score

// Action is what follows from a score.
type Action string

// The actions.
const (
	Allow Action = "allow"
	Warn  Action = "warn"
	Block Action = "block"
)

// Policy holds the thresholds. The zero Policy is Defaults.
type Policy struct {
	WarnAt  int `json:"warn_at"`
	BlockAt int `json:"block_at"`
	// AskAt is the score from which on a second opinion is asked for.
	AskAt int `json:"ask_at"`
	// FailClosed blocks a script whose second opinion was wanted and did not come.
	FailClosed bool `json:"fail_closed"`
}

// Defaults warns at 40, blocks at 70 and asks at 30.
func Defaults() Policy { return Policy{WarnAt: 40, BlockAt: 70, AskAt: 30} }

// orDefaults fills in the thresholds that are zero.
func (p Policy) orDefaults() Policy {
	d := Defaults()
	if p.WarnAt == 0 {
		p.WarnAt = d.WarnAt
	}
	if p.BlockAt == 0 {
		p.BlockAt = d.BlockAt
	}
	if p.AskAt == 0 {
		p.AskAt = d.AskAt
	}
	return p
}

func (p Policy) action(score int) Action {
	switch {
	case score >= p.BlockAt:
		return Block
	case score >= p.WarnAt:
		return Warn
	}
	return Allow
}

// Signal is one reason for points.
type Signal struct {
	Name   string `json:"name"`
	Points int    `json:"points"`
	Detail string `json:"detail"`
	Line   int    `json:"line,omitempty"`
}

// Verdict is what the gate says.
type Verdict struct {
	Score   int      `json:"score"` // 0 to 100
	Action  Action   `json:"action"`
	Signals []Signal `json:"signals"`
}

// Score judges f. Tools that are not declared, or say nothing, are judged by name.
func Score(f Features, tools []Tool, p Policy) Verdict {
	p = p.orDefaults()
	j := judge{f: f, tools: make(map[string]Tool, len(tools))}
	for _, t := range tools {
		if t.says() {
			j.tools[t.Name] = t
		}
	}
	v := Verdict{Signals: []Signal{}}
	for _, rule := range []func() (Signal, bool){
		j.sensitiveFields, j.excessiveLimit, j.wildcardQuery, j.loopToolCall,
		j.exfilPattern, j.extremeValue, j.dynamicTool, j.bulkOperation,
	} {
		if s, ok := rule(); ok {
			v.Signals = append(v.Signals, s)
			v.Score += s.Points
		}
	}
	v.Score = min(v.Score, 100)
	v.Action = p.action(v.Score)
	return v
}

// Second gives another opinion, such as a model's. It sees features, never source.
type Second interface {
	Opinion(f Features) (Verdict, error)
}

// Ask adds a second opinion to a verdict that is high enough to want one: the higher
// score counts. An opinion that does not come leaves the verdict as it is or, under
// FailClosed, blocks; the signals say so.
func Ask(f Features, first Verdict, s Second, p Policy) Verdict {
	p = p.orDefaults()
	if s == nil || first.Score < p.AskAt {
		return first
	}
	v := Verdict{Score: first.Score, Signals: append([]Signal{}, first.Signals...)}
	second, err := s.Opinion(f)
	switch {
	case err == nil && second.Score >= 0 && second.Score <= 100:
		v.Score = max(v.Score, second.Score)
		v.Signals = append(v.Signals, second.Signals...)
	case p.FailClosed:
		v.Score = 100
		v.Signals = append(v.Signals, Signal{Name: "NO_SECOND_OPINION", Points: 100, Detail: "the second opinion did not come, and this level does not run without one"})
	default:
		v.Signals = append(v.Signals, Signal{Name: "NO_SECOND_OPINION", Detail: "the second opinion did not come; the rules alone decided"})
	}
	v.Action = p.action(v.Score)
	return v
}
