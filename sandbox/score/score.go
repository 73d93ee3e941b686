// Package score turns what a script looks like into a risk between 0 and 100 with
// named, explained signals, and a verdict: allow, warn or block.
//
// It sees features, never the source. Where tools declare what they do (reads,
// writes, sends, secret), that counts; where they do not, their names are split into
// words and compared with short lists. The rules are pure: same features, same
// verdict.
package score

// Features is what the scoring gate may know about a script.
type Features struct {
	Calls        []Call  `json:"calls"`          // in order of the text
	Depth        int     `json:"depth"`          // deepest nesting of loops
	IteratesTool bool    `json:"iterates_tool"`  // a loop runs over the result of a tool
	MaxLimit     float64 `json:"max_limit"`      // largest limit-like number
	MaxLimitLine int     `json:"max_limit_line"` // where it stands
	LongestText  int     `json:"longest_text"`   // bytes of the longest string literal
	Lines        int     `json:"lines"`
	Names        []Name  `json:"names"` // property names, keys and short literals
}

// Call is one place in the text that calls a tool.
type Call struct {
	Tool     string    `json:"tool"`
	Line     int       `json:"line"`
	Keys     []string  `json:"keys,omitempty"`
	Strings  []string  `json:"strings,omitempty"`
	Numbers  []float64 `json:"numbers,omitempty"`
	NoArgs   bool      `json:"no_args,omitempty"`
	Loop     int       `json:"loop,omitempty"`      // loops and callbacks around it
	OverTool bool      `json:"over_tool,omitempty"` // one of them runs over the result of a tool
}

// Name is a word of the text that may name something sensitive.
type Name struct {
	Text string `json:"text"`
	Line int    `json:"line"`
}

// Tool is what a declared tool says of itself.
type Tool struct {
	Name   string `json:"name"`
	Reads  bool   `json:"reads"`
	Writes bool   `json:"writes"`
	Sends  bool   `json:"sends"`
	Secret bool   `json:"secret"`
}

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
}

// Defaults warns at 40 and blocks at 70.
func Defaults() Policy { return Policy{WarnAt: 40, BlockAt: 70} }

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

// Score judges f. Tools that are not declared are judged by their names.
func Score(f Features, tools []Tool, p Policy) Verdict {
	return Verdict{Action: Allow, Signals: []Signal{}}
}
