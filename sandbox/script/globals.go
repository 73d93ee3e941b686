package script

import "slices"

// Names that the language itself gives a meaning.
const (
	CallTool = "callTool"
	Parallel = "parallel"
)

// baseGlobals exist at every level. console, Map, Set, RegExp and the errors go
// beyond AgentScript: users miss them, and they reach nothing.
var baseGlobals = []string{
	"callTool", "parallel", "Math", "JSON", "Array", "Object", "String", "Number", "Boolean", "Date",
	"undefined", "NaN", "Infinity", "console", "Map", "Set", "RegExp",
	"Error", "TypeError", "RangeError", "SyntaxError",
}

// moreGlobals come with SECURE.
var moreGlobals = []string{
	"parseInt", "parseFloat", "isNaN", "isFinite",
	"encodeURI", "decodeURI", "encodeURIComponent", "decodeURIComponent",
}

func globalsOf(l Level) []string {
	g := slices.Clone(baseGlobals)
	if l == Secure || l == Standard || l == Permissive {
		g = append(g, moreGlobals...)
	}
	slices.Sort(g)
	return g
}

// IsDangerousKey reports whether key is a property name that leads from a value to the
// machinery behind it. No script reads or writes one, by any spelling; the engine's key
// guard refuses them at run time.
func IsDangerousKey(key string) bool {
	switch key {
	case "constructor", "prototype", "__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__":
		return true
	}
	return false
}

// IsMetaMethod reports whether key is a method of Object that rewrites or reads
// what objects are made of. Scripts do not name them and the realm has none.
func IsMetaMethod(key string) bool {
	switch key {
	case "defineProperty", "defineProperties", "getOwnPropertyDescriptor", "getOwnPropertyDescriptors",
		"getPrototypeOf", "setPrototypeOf", "create", "getOwnPropertySymbols", "preventExtensions":
		return true
	}
	return false
}
