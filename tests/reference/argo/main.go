// Says what Argo itself makes of expressions: reads cases as JSON lines {"text", "names"} on its standard input, and
// writes {"value"} or {"error"} for each. The text goes through the very function by which the controller fills in
// templates, so that quoting, escapes and numbers come out as they do there.
//
// Ours; `make expr-cases` runs it against the Argo that go.mod pins. Tests read what it wrote and need no Go.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/argoproj/argo-workflows/v3/util/template"
)

type question struct {
	Text  string         `json:"text"`
	Names map[string]any `json:"names"`
}

type answer struct {
	Value *string `json:"value,omitempty"`
	Error string  `json:"error,omitempty"`
}

// strict are the first words of names that must be there when a call's arguments are filled in, as the controller has it.
var strict = []string{"steps", "tasks"}

// fill returns what stands in the template once the expression is filled in. The blank keeps braces at its end apart
// from the tag's own. Argo's functions panic in places; the controller recovers, and so does this.
func fill(asked question) (result answer) {
	defer func() {
		if problem := recover(); problem != nil {
			result = answer{Error: fmt.Sprint(problem)}
		}
	}()
	tag := "{{=" + asked.Text + " }}"
	marshalled, err := json.Marshal(tag)
	if err != nil {
		return answer{Error: err.Error()}
	}
	filled, err := template.ReplaceStrictAny(string(marshalled), asked.Names, strict)
	if err == nil && filled == string(marshalled) { // left for later; there is no later here, so say why
		_, err = template.Replace(string(marshalled), asked.Names, false)
		if err == nil {
			err = fmt.Errorf("it was left as it is")
		}
	}
	if err != nil {
		return answer{Error: err.Error()}
	}
	var value string
	if err := json.Unmarshal([]byte(filled), &value); err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Value: &value}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		if err := out.Encode(fill(asked)); err != nil {
			panic(err)
		}
	}
}
