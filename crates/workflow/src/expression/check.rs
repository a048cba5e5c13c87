//! Looks through a parsed expression: every name, function and bound at once; cuts the paths out, and puts calls that
//! count around what can grow or be repeated.

use cel::{
    IdedExpr as Tree,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SourceInfo, operators},
};

use super::{
    COMPREHENSIONS_NESTED_MAX, Code, DEPTH_MAX, Fault,
    names::{LOCALS, Names, RUN_FIELDS, Reference, Root, STEP_FIELDS, function_fault, is_type},
    parse::Parsed,
    path::{Path, Segment},
    run::{Program, Slot, variable},
    work::{self, CHARGE, EACH, Function},
};

pub(super) struct Checked {
    pub code: Code,
    pub references: Vec<Reference>,
}

pub(super) fn check(parsed: Parsed, source: &str, names: &Names<'_>) -> Result<Checked, Vec<Fault>> {
    let Parsed { mut tree, info } = parsed;
    let mut checker = Checker {
        source,
        info: &info,
        names,
        bound: Vec::new(),
        comprehensions: 0,
        slots: Vec::new(),
        functions: Vec::new(),
        references: Vec::new(),
        faults: Vec::new(),
        depth: 0,
    };
    checker.visit(&mut tree, 1);
    let Checker { mut slots, functions, mut references, mut faults, depth, .. } = checker;
    if !faults.is_empty() {
        faults.sort_by_key(|fault| (fault.line, fault.column));
        return Err(faults);
    }
    references.sort_by_key(|reference| (reference.line, reference.column));
    let is_path = matches!(&tree.expr, Expr::Ident(name) if *name == variable(0)) && !slots[0].is_test;
    let code = if is_path {
        Code::Path(slots.swap_remove(0).path)
    } else {
        Code::Program(Box::new(Program { tree, slots, functions, depth }))
    };
    Ok(Checked { code, references })
}

struct Checker<'a> {
    source: &'a str,
    info: &'a SourceInfo,
    names: &'a Names<'a>,
    /// Variables of the comprehensions around.
    bound: Vec<String>,
    /// How many comprehensions are around.
    comprehensions: usize,
    slots: Vec<Slot>,
    /// Those of ours that are called.
    functions: Vec<&'static Function>,
    references: Vec<Reference>,
    faults: Vec<Fault>,
    /// The deepest node.
    depth: usize,
}

/// A name and the selections on it, with the ids of their nodes.
struct Chain {
    name: String,
    id: u64,
    segments: Vec<(Segment, u64)>,
    is_test: bool,
}

impl Checker<'_> {
    fn visit(&mut self, node: &mut Tree, depth: usize) {
        if depth > DEPTH_MAX {
            if !self.faults.iter().any(|fault| fault.message.starts_with("it is nested")) {
                self.fault(node.id, format!("it is nested more than {DEPTH_MAX} deep; let an agent do it"));
            }
            return;
        }
        self.depth = self.depth.max(depth);
        if let Some(chain) = chain(node).filter(|chain| !self.is_own(chain)) {
            node.expr = match self.slot(chain) {
                Some(slot) => Expr::Ident(variable(slot)),
                None => Expr::Literal(LiteralValue::Null),
            };
            return;
        }
        let id = node.id;
        match &mut node.expr {
            Expr::Literal(_) | Expr::Ident(_) => {}
            Expr::Unspecified => self.fault(id, "this is not an expression"),
            Expr::Select(select) => self.visit(&mut select.operand, depth + 1),
            Expr::Call(call) => self.visit_call(id, call, depth),
            Expr::List(list) => {
                for element in &mut list.elements {
                    self.visit(element, depth + 1);
                    self.charge(element);
                }
            }
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        self.visit(&mut entry.key, depth + 1);
                        self.visit(&mut entry.value, depth + 1);
                        self.charge(&mut entry.value);
                    }
                }
            }
            Expr::Struct(of) => {
                let message = format!("`{}` cannot be built here; a map is written {{\"key\": value}}", of.type_name);
                self.fault(id, message);
            }
            Expr::Comprehension(comprehension) => self.visit_comprehension(id, comprehension, depth),
        }
    }

    fn visit_call(&mut self, id: u64, call: &mut CallExpr, depth: usize) {
        let operator = !call.func_name.starts_with(|first: char| first.is_ascii_alphabetic());
        if !operator && let Some(message) = function_fault(&call.func_name, call.target.is_some(), call.args.len()) {
            self.fault(id, message);
        }
        self.calls(&call.func_name);
        let operands = call.target.iter_mut().map(AsMut::as_mut).chain(&mut call.args);
        // What each operator may make or go through: a sum both its sides, a comparison in a loop too. What only picks,
        // counts or decides is free.
        let counted = match call.func_name.as_str() {
            operators::ADD => true,
            operators::INDEX
            | operators::CONDITIONAL
            | operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::NOT_STRICTLY_FALSE
            | "size" => false,
            _ => self.comprehensions > 0,
        };
        for operand in operands {
            self.visit(operand, depth + 1);
            if counted {
                self.charge(operand);
            }
        }
    }

    fn visit_comprehension(&mut self, id: u64, comprehension: &mut ComprehensionExpr, depth: usize) {
        self.visit(&mut comprehension.iter_range, depth + 1);
        self.wrap(&mut comprehension.iter_range, EACH);
        self.visit(&mut comprehension.accu_init, depth + 1);
        self.comprehensions += 1;
        if self.comprehensions > COMPREHENSIONS_NESTED_MAX {
            let message = format!(
                "at most {COMPREHENSIONS_NESTED_MAX} of map, filter, all, exists and exists_one may stand in one another; let an agent do it"
            );
            self.fault(id, message);
        }
        self.bound.extend([comprehension.iter_var.clone(), comprehension.accu_var.clone()]);
        self.visit(&mut comprehension.loop_cond, depth + 1);
        self.visit(&mut comprehension.loop_step, depth + 1);
        self.visit(&mut comprehension.result, depth + 1);
        self.charge_step(&mut comprehension.loop_step);
        self.bound.truncate(self.bound.len() - 2);
        self.comprehensions -= 1;
    }

    /// Whether the chain begins with a variable of a comprehension, a type, or what the parser or this check made.
    fn is_own(&self, chain: &Chain) -> bool {
        chain.name.starts_with('@')
            || self.bound.contains(&chain.name)
            || (chain.segments.is_empty() && is_type(&chain.name))
    }

    /// The slot of what a chain names; none after a fault.
    fn slot(&mut self, chain: Chain) -> Option<usize> {
        let (root, used) = self.root(&chain)?;
        let (line, column) = super::place(self.source, self.offset(chain.id));
        let key = chain.segments.get(used).and_then(|(segment, _)| match segment {
            Segment::Key(key) => Some(key.clone()),
            Segment::Index(_) => None,
        });
        // `has(input.a)` asks whether it is there, so it need not be known.
        let is_asked = chain.is_test && chain.segments.len() == used + 1;
        self.references.push(Reference { root: root.clone(), key: key.filter(|_| !is_asked), line, column });
        let segments = chain.segments.into_iter().skip(used).map(|(segment, _)| segment).collect();
        let slot = Slot { path: Path { root, segments }, is_test: chain.is_test };
        Some(self.slots.iter().position(|known| *known == slot).unwrap_or_else(|| {
            self.slots.push(slot);
            self.slots.len() - 1
        }))
    }

    /// What a chain begins with, and how many of its segments belong to that.
    fn root(&mut self, chain: &Chain) -> Option<(Root, usize)> {
        match chain.name.as_str() {
            "input" => Some((Root::Input, 0)),
            "run" => match chain.segments.first() {
                Some((Segment::Key(field), id)) if !RUN_FIELDS.contains(&field.as_str()) => {
                    self.fault(*id, format!("`run` has no `{field}`; it has {}", RUN_FIELDS.join(", ")));
                    None
                }
                _ => Some((Root::Run, 0)),
            },
            "steps" => self.step_root(chain),
            name => {
                if let Some(local) = self.names.locals.iter().find(|local| **local == name) {
                    return Some((Root::Local(local), 0));
                }
                let known_elsewhere = LOCALS.iter().find(|(local, _)| *local == name);
                let message = match known_elsewhere {
                    Some((local, place)) => format!("`{local}` is known only {place}"),
                    None => format!(
                        "`{name}` is not known; known are {}. Text is put in quotes",
                        ["input", "run", "steps"]
                            .iter()
                            .chain(self.names.locals)
                            .copied()
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                };
                self.fault(chain.id, message);
                None
            }
        }
    }

    fn step_root(&mut self, chain: &Chain) -> Option<(Root, usize)> {
        let Some((Segment::Key(name), id)) = chain.segments.first() else {
            self.fault(chain.id, "`steps` is followed by the name of a step, written out: `steps.files.output`");
            return None;
        };
        if !(self.names.has_step)(name) {
            let message = self.longer_name(*id, name).map_or_else(
                || format!("there is no step `{name}`"),
                |longer| format!("a name with `-` is written in brackets: `steps[\"{longer}\"]`"),
            );
            self.fault(*id, message);
            return None;
        }
        let name = name.clone();
        match chain.segments.get(1) {
            Some((Segment::Key(field), _)) if field == "output" => Some((Root::StepOutput(name), 2)),
            Some((Segment::Key(field), _)) if field == "status" => Some((Root::StepStatus(name), 2)),
            Some((Segment::Key(field), _)) if field == "error" => Some((Root::StepError(name), 2)),
            Some((_, id)) => {
                self.fault(*id, format!("a step has {}: `steps.{name}.output`", STEP_FIELDS.join(", ")));
                None
            }
            None => {
                self.fault(
                    *id,
                    format!("a step is no value; it has {}: `steps.{name}.output`", STEP_FIELDS.join(", ")),
                );
                None
            }
        }
    }

    /// The step that was meant where CEL reads a minus: `steps.write-report`.
    fn longer_name(&self, id: u64, name: &str) -> Option<String> {
        let rest = self.source.get(self.offset(id)..)?;
        let begin = rest.find(name)?;
        let longer: String = rest[begin..]
            .chars()
            .take_while(|each| each.is_ascii_alphanumeric() || matches!(each, '_' | '-'))
            .collect();
        (self.names.has_step)(&longer).then_some(longer)
    }

    fn offset(&self, id: u64) -> usize {
        let offset = self.info.offset_for(id).map_or(0, |(begin, _)| begin as usize);
        // A selection is known by its dot; people look for the name behind it.
        offset + usize::from(self.source.as_bytes().get(offset) == Some(&b'.'))
    }

    fn fault(&mut self, id: u64, message: impl Into<String>) {
        let fault = Fault::at(self.source, self.offset(id), message);
        self.faults.push(fault);
    }

    /// Counts what each turn of a comprehension looks at. The shapes stay as they are: the interpreter knows them, and appends
    /// to a list in place only then.
    fn charge_step(&mut self, step: &mut Tree) {
        let Expr::Call(call) = &mut step.expr else { return };
        match (call.func_name.as_str(), call.args.as_mut_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [_, each]) => self.charge(each),
            (operators::CONDITIONAL, [condition, ..]) => self.charge(condition),
            _ => {}
        }
    }

    /// Counts a value where it is used. Lists count what is put into them, and what a comprehension gathers is counted with
    /// that.
    fn charge(&mut self, node: &mut Tree) {
        match &node.expr {
            Expr::Literal(_) | Expr::List(_) => {}
            Expr::Ident(name) if name.starts_with("@r") => {}
            _ => self.wrap(node, CHARGE),
        }
    }

    fn wrap(&mut self, node: &mut Tree, function: &str) {
        self.calls(function);
        let inner = std::mem::take(node);
        let id = inner.id;
        let call = CallExpr { func_name: function.to_owned(), target: None, args: vec![inner] };
        *node = Tree { id, expr: Expr::Call(call) };
    }

    fn calls(&mut self, function: &str) {
        if let Some(ours) = work::find(function)
            && !self.functions.iter().any(|known| known.name == ours.name)
        {
            self.functions.push(ours);
        }
    }
}

/// The name and the selections that a node consists of, if it does.
fn chain(node: &Tree) -> Option<Chain> {
    let is_test = matches!(&node.expr, Expr::Select(select) if select.test);
    let mut segments = Vec::new();
    let mut node = node;
    loop {
        match &node.expr {
            Expr::Ident(name) => {
                segments.reverse();
                return Some(Chain { name: name.clone(), id: node.id, segments, is_test });
            }
            Expr::Select(select) => {
                segments.push((Segment::Key(select.field.clone()), node.id));
                node = &select.operand;
            }
            Expr::Call(call) if call.func_name == operators::INDEX && call.target.is_none() => {
                let [list, index] = call.args.as_slice() else { return None };
                let segment = match &index.expr {
                    Expr::Literal(LiteralValue::String(key)) => Segment::Key(key.inner().to_owned()),
                    Expr::Literal(LiteralValue::Int(index)) => Segment::Index(usize::try_from(*index.inner()).ok()?),
                    _ => return None,
                };
                segments.push((segment, node.id));
                node = list;
            }
            _ => return None,
        }
    }
}
