package score

// Features is what the scoring gate may know about a script.
type Features struct {
	Calls        []Call  `json:"calls"`          // in order of the text
	Depth        int     `json:"depth"`          // deepest nesting of loops and iterating callbacks
	IteratesTool bool    `json:"iterates_tool"`  // a loop runs over the result of a tool
	MaxLimit     float64 `json:"max_limit"`      // largest limit-like number
	MaxLimitLine int     `json:"max_limit_line"` // where it stands
	LongestText  int     `json:"longest_text"`   // bytes of the longest string literal
	Lines        int     `json:"lines"`
	Names        []Name  `json:"names"` // property names, keys and literals that could be names
}

// Call is one place in the text that calls a tool.
type Call struct {
	Tool     string    `json:"tool"` // empty if the text does not say which
	Line     int       `json:"line"`
	Keys     []string  `json:"keys,omitempty"`
	Strings  []string  `json:"strings,omitempty"`
	Numbers  []float64 `json:"numbers,omitempty"`
	NoArgs   bool      `json:"no_args,omitempty"`
	Loop     int       `json:"loop,omitempty"`      // loops and iterating callbacks around it
	OverTool bool      `json:"over_tool,omitempty"` // one of them runs over the result of a tool
}

// Name is a word of the text that may name something sensitive.
type Name struct {
	Text string `json:"text"`
	Line int    `json:"line"`
}

// Tool is what a declared tool says of itself. One that says nothing is judged by
// the words of its name.
type Tool struct {
	Name   string `json:"name"`
	Reads  bool   `json:"reads"`  // gives data out
	Writes bool   `json:"writes"` // changes something
	Sends  bool   `json:"sends"`  // carries data to somebody else
	Secret bool   `json:"secret"` // gives out what must stay inside
	// Declared says that the four were declared, so that all of them false means a tool
	// that does none of it. One of them true says so, too.
	Declared bool `json:"declared,omitempty"`
}

func (t Tool) says() bool { return t.Declared || t.Reads || t.Writes || t.Sends || t.Secret }
