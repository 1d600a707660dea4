//! As much of GraphQL as the calls of an inventory sync need: one operation, its fields with
//! arguments, directives and inline fragments. Named fragments are not understood.

use std::{collections::BTreeMap, iter::Peekable, str::Chars, vec::IntoIter};

use serde_json::{Map, Value};

/// How deep selections and values may nest; deeper documents are refused, not recursed into.
const DEPTH_MAX: usize = 24;

/// What a document asks for, with its variables filled in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operation {
    pub(crate) mutation: bool,
    pub(crate) fields: Vec<Field>,
}

/// Named values; an argument whose variable was not sent is absent.
pub(crate) type Arguments = BTreeMap<String, Value>;

/// One selected field.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Field {
    /// The name under which the answer carries it.
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) arguments: Arguments,
    pub(crate) directives: BTreeMap<String, Arguments>,
    pub(crate) fields: Vec<Field>,
}

/// Reads a document. The error is a sentence for the caller.
pub(crate) fn parse(document: &str, variables: &Map<String, Value>) -> Result<Operation, String> {
    let tokens = tokens(document)?;
    let mut parser = Parser { tokens: tokens.into_iter().peekable(), variables, depth: 0 };
    let operation = parser.operation()?;
    match parser.tokens.next() {
        None => Ok(operation),
        Some(_) => Err("only one operation is understood in a document".to_owned()),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Variable(String),
    Text(String),
    Number(String),
    Spread,
    Mark(char),
}

fn tokens(document: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = document.chars().peekable();
    while let Some(next) = rest.next() {
        let token = match next {
            ' ' | '\t' | '\n' | '\r' | ',' | '\u{feff}' => continue,
            '#' => {
                while rest.next_if(|c| *c != '\n').is_some() {}
                continue;
            }
            '"' => Token::Text(text(&mut rest)?),
            '$' => Token::Variable(word(None, &mut rest)),
            '.' => {
                if rest.next() != Some('.') || rest.next() != Some('.') {
                    return Err("a single dot".to_owned());
                }
                Token::Spread
            }
            c if c == '_' || c.is_ascii_alphabetic() => Token::Name(word(Some(c), &mut rest)),
            c if c == '-' || c.is_ascii_digit() => {
                let mut number = String::from(c);
                while let Some(c) = rest.next_if(|c| c.is_ascii_digit() || "+-.eE".contains(*c)) {
                    number.push(c);
                }
                Token::Number(number)
            }
            c if "{}()[]:!=@|&".contains(c) => Token::Mark(c),
            c => return Err(format!("unexpected character {c:?}")),
        };
        tokens.push(token);
    }
    Ok(tokens)
}

fn word(first: Option<char>, rest: &mut Peekable<Chars<'_>>) -> String {
    let mut word: String = first.into_iter().collect();
    while let Some(c) = rest.next_if(|c| *c == '_' || c.is_ascii_alphanumeric()) {
        word.push(c);
    }
    word
}

/// A string after its opening quote. Its escapes are those of JSON.
fn text(rest: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut raw = String::from('"');
    loop {
        let c = rest.next().ok_or("a string without an end")?;
        raw.push(c);
        match c {
            '"' => break,
            '\\' => raw.push(rest.next().ok_or("a string without an end")?),
            _ => {}
        }
    }
    serde_json::from_str(&raw).map_err(|_| format!("a string that cannot be read: {raw}"))
}

struct Parser<'a> {
    tokens: Peekable<IntoIter<Token>>,
    variables: &'a Map<String, Value>,
    depth: usize,
}

impl Parser<'_> {
    fn operation(&mut self) -> Result<Operation, String> {
        let mut mutation = false;
        if let Some(Token::Name(kind)) =
            self.tokens.next_if(|token| matches!(token, Token::Name(_)))
        {
            mutation = match kind.as_str() {
                "query" => false,
                "mutation" => true,
                other => return Err(format!("a {other} is not understood")),
            };
            self.tokens.next_if(|token| matches!(token, Token::Name(_)));
            self.skip_definitions()?;
            self.directives()?;
        }
        let fields = self.selection()?;
        if fields.is_empty() {
            return Err("nothing is selected".to_owned());
        }
        Ok(Operation { mutation, fields })
    }

    /// The variables' types: the values speak for themselves.
    fn skip_definitions(&mut self) -> Result<(), String> {
        if !self.took('(') {
            return Ok(());
        }
        let mut open = 1_usize;
        while open > 0 {
            match self.tokens.next().ok_or("variables without an end")? {
                Token::Mark('(') => open += 1,
                Token::Mark(')') => open -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn selection(&mut self) -> Result<Vec<Field>, String> {
        self.expect('{')?;
        self.enter()?;
        let mut fields = Vec::new();
        while !self.took('}') {
            match self.tokens.next() {
                Some(Token::Name(name)) => fields.push(self.field(name)?),
                Some(Token::Spread) => fields.append(&mut self.inline_fragment()?),
                other => return Err(format!("expected a field, found {other:?}")),
            }
        }
        self.depth -= 1;
        Ok(fields)
    }

    fn inline_fragment(&mut self) -> Result<Vec<Field>, String> {
        match self.tokens.next_if(|token| matches!(token, Token::Name(_))) {
            Some(Token::Name(on)) if on == "on" => {
                self.tokens.next();
            }
            Some(_) => return Err("named fragments are not understood".to_owned()),
            None => {}
        }
        self.directives()?;
        self.selection()
    }

    fn field(&mut self, first: String) -> Result<Field, String> {
        let (key, name) =
            if self.took(':') { (first, self.name()?) } else { (first.clone(), first) };
        let arguments = self.arguments()?;
        let directives = self.directives()?;
        let open = self.tokens.peek() == Some(&Token::Mark('{'));
        let fields = if open { self.selection()? } else { Vec::new() };
        Ok(Field { key, name, arguments, directives, fields })
    }

    fn directives(&mut self) -> Result<BTreeMap<String, Arguments>, String> {
        let mut directives = BTreeMap::new();
        while self.took('@') {
            let name = self.name()?;
            let arguments = self.arguments()?;
            directives.insert(name, arguments);
        }
        Ok(directives)
    }

    fn arguments(&mut self) -> Result<Arguments, String> {
        let mut arguments = Arguments::new();
        if !self.took('(') {
            return Ok(arguments);
        }
        while !self.took(')') {
            let name = self.name()?;
            self.expect(':')?;
            if let Some(value) = self.value()? {
                arguments.insert(name, value);
            }
        }
        Ok(arguments)
    }

    /// A value, or nothing for a variable that was not sent.
    fn value(&mut self) -> Result<Option<Value>, String> {
        let value = match self.tokens.next().ok_or("a value is missing")? {
            Token::Variable(name) => return Ok(self.variables.get(&name).cloned()),
            Token::Text(text) => Value::String(text),
            Token::Number(number) => serde_json::from_str(&number)
                .map_err(|_| format!("a number that cannot be read: {number}"))?,
            Token::Name(name) => match name.as_str() {
                "null" => Value::Null,
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => Value::String(name),
            },
            Token::Mark('[') => {
                self.enter()?;
                let mut values = Vec::new();
                while !self.took(']') {
                    values.push(self.value()?.unwrap_or(Value::Null));
                }
                self.depth -= 1;
                Value::Array(values)
            }
            Token::Mark('{') => {
                self.enter()?;
                let mut object = Map::new();
                while !self.took('}') {
                    let name = self.name()?;
                    self.expect(':')?;
                    if let Some(value) = self.value()? {
                        object.insert(name, value);
                    }
                }
                self.depth -= 1;
                Value::Object(object)
            }
            other => return Err(format!("expected a value, found {other:?}")),
        };
        Ok(Some(value))
    }

    fn enter(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX}"));
        }
        Ok(())
    }

    fn name(&mut self) -> Result<String, String> {
        match self.tokens.next() {
            Some(Token::Name(name)) => Ok(name),
            other => Err(format!("expected a name, found {other:?}")),
        }
    }

    fn took(&mut self, mark: char) -> bool {
        self.tokens.next_if_eq(&Token::Mark(mark)).is_some()
    }

    fn expect(&mut self, mark: char) -> Result<(), String> {
        if self.took(mark) {
            return Ok(());
        }
        Err(format!("expected {mark:?}, found {:?}", self.tokens.peek()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    /// A directive missed here would turn a correct push into a refused one.
    #[test]
    fn a_mutation_with_its_directive() {
        let document = "mutation Set($input: In! = {a: 1}, $key: String!) { # words\n\
             put: inventorySetQuantities(input: $input) @idempotent(key: $key) { userErrors { code } } }";
        let operation =
            parse(document, &variables(&json!({"key": "k", "input": {"name": "available"}})));
        let operation = operation.unwrap();
        assert!(operation.mutation);
        let field = &operation.fields[0];
        assert_eq!((field.key.as_str(), field.name.as_str()), ("put", "inventorySetQuantities"));
        assert_eq!(field.arguments["input"], json!({"name": "available"}));
        assert_eq!(field.directives["idempotent"]["key"], json!("k"));
        assert_eq!(field.fields[0].fields[0].name, "code");
    }

    /// Literals, lists and inline fragments must mean what they say, and an unsent variable nothing.
    #[test]
    fn a_query_with_literals_and_a_fragment() {
        let document = r#"{ nodes(ids: ["a", "b"], extra: $none) { ... on InventoryItem
            { id quantities(names: [AVAILABLE], n: -3, deep: {x: null}) } } }"#;
        let operation = parse(document, &Map::new()).unwrap();
        assert!(!operation.mutation);
        let nodes = &operation.fields[0];
        assert_eq!(nodes.arguments["ids"], json!(["a", "b"]));
        assert!(!nodes.arguments.contains_key("extra"));
        let quantities = &nodes.fields[1];
        assert_eq!(quantities.arguments["names"], json!(["AVAILABLE"]));
        assert_eq!(quantities.arguments["n"], json!(-3));
        assert_eq!(quantities.arguments["deep"], json!({"x": null}));
    }

    /// A document that cannot be read must be an answer, never a panic or an overflowing stack.
    #[test]
    fn nonsense_is_refused() {
        let deep = format!("{}{}", "{a".repeat(100_000), "}".repeat(100_000));
        let list = format!("{{a(b: {}", "[".repeat(100_000));
        for document in ["", "{", "{}", "mutation", "{a(}", "{a(b:\"", "{a} {b}", ". .", "{...F}"] {
            assert!(parse(document, &Map::new()).is_err(), "{document}");
        }
        assert!(parse(&deep, &Map::new()).is_err());
        assert!(parse(&list, &Map::new()).is_err());
    }
}
