package engine

import (
	"reflect"
	"strings"
	"unsafe"

	"github.com/dop251/goja"
)

// An object whose toString and valueOf give no plain value cannot be made one. The
// interpreter says so with what Go prints of its own struct, types and addresses included
// (ordinaryToPrimitive in its object.go). It makes that error by its TypeError, as it does all
// others, so a constructor of ours in that one's place says it in other words, and of a few
// others what to do.

// maker is how the interpreter constructs.
type maker = func(args []goja.Value, newTarget *goja.Object) *goja.Object

func (s *shape) newMakerShape(rt *goja.Runtime) error {
	o, ok := rt.GlobalObject().Get("TypeError").(*goja.Object)
	if !ok {
		return errShape
	}
	impl := reflect.ValueOf(o).Elem().Field(s.self).Elem().Type()
	if impl.Kind() != reflect.Pointer || impl.Elem().Kind() != reflect.Struct {
		return errShape
	}
	f, ok := impl.Elem().FieldByName("construct")
	if !ok || f.Type != reflect.TypeFor[maker]() || len(f.Index) != 1 {
		return errShape
	}
	s.maker, s.construct = s.words(o)[0], f.Offset
	return nil
}

// How the interpreter's text begins and ends, and what is said in its place.
const (
	describedFrom = "Could not convert "
	describedTo   = " to primitive"
	described     = "an object cannot be made a string or a number: its toString and valueOf give no plain value"
)

// What calling a member that is not there may have meant, by its name: who wrote the script,
// often a model, has to know what to write.
const notAList = "; it is no list: a tool's list may be in a member of the result, and [...x] makes one of an iterator"

var meant = map[string]string{
	"map": notAList, "filter": notAList, "forEach": notAList, "reduce": notAList, "find": notAList, "some": notAList, "every": notAList,
	"flatMap": notAList, "sort": notAList, "slice": notAList, "join": notAList, "push": notAList, "toArray": notAList, "take": notAList,
	"groupBy":   "; collect in a loop: (out[key] ||= []).push(item)",
	"fromAsync": "; await in a loop",
}

// noMembers is said where null or undefined is taken apart.
const noMembers = "Value is not object coercible"

// Between these stands the name of a member that is not there.
const (
	noMemberFrom = "Object has no member '"
	maxNoMember  = 64
)

// inOurWords is what is said in place of a text of the interpreter; empty leaves it.
func inOurWords(s goja.String) string {
	if describesObject(s) {
		return described
	}
	if s.Length() > maxNoMember {
		return ""
	}
	text := s.String()
	if text == noMembers {
		return "null and undefined have no members: give a pattern a default (= {}), or ask with ?."
	}
	name, ok := strings.CutPrefix(text, noMemberFrom)
	if hint := meant[strings.TrimSuffix(name, "'")]; ok && hint != "" {
		return text + hint
	}
	return ""
}

// describe puts the words of ours in their place.
func (r *realm) describe(typeError *goja.Object) {
	w := r.e.shape.words(typeError)
	if w[0] != r.e.shape.maker {
		r.check(errShape)
		return
	}
	place := (*maker)(unsafe.Add(w[1], r.e.shape.construct))
	was := *place
	*place = func(args []goja.Value, newTarget *goja.Object) *goja.Object {
		if len(args) > 0 {
			if s, ok := args[0].(goja.String); ok {
				if text := inOurWords(s); text != "" {
					args = append([]goja.Value{r.rt.ToValue(text)}, args[1:]...)
				}
			}
		}
		return was(args, newTarget)
	}
}

// describesObject reports whether a text is that of the interpreter. It looks at its ends:
// a script may make an error of any text.
func describesObject(s goja.String) bool {
	n := s.Length()
	if n < len(describedFrom)+len(describedTo) {
		return false
	}
	return s.Substring(0, len(describedFrom)).String() == describedFrom && strings.HasSuffix(s.Substring(n-len(describedTo), n).String(), describedTo)
}
