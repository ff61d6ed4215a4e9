//! Tables, and what is held by them.

use alloc::format;
use alloc::vec::Vec;

use super::*;
use crate::kfunc::{KfuncArg, KfuncRet, ObjectType};

fn module(name: &str) -> Arc<Module> {
    let functions = [KfuncProto::new(7, "first"), KfuncProto::new(3, "second")];
    Arc::new(Module::new(name, functions).unwrap())
}

fn registry(modules: &[&Arc<Module>]) -> Modules {
    let mut registry = Modules::new();
    for module in modules {
        registry.register(Arc::clone(module)).unwrap();
    }
    registry
}

fn indices(table: &ModuleTable) -> Vec<i16> {
    table.iter().map(|(index, _)| index).collect()
}

#[test]
fn a_module_gets_the_lowest_free_index() {
    let modules: Vec<_> = (0..5).map(|n| module(&format!("m{n}"))).collect();
    let mut table = ModuleTable::new();
    table.insert(4, &modules[0]).unwrap();
    table.insert(1, &modules[1]).unwrap();
    assert_eq!(table.add(&modules[2]), Ok(2));
    assert_eq!(table.add(&modules[3]), Ok(3));
    assert_eq!(table.add(&modules[4]), Ok(5));
    assert_eq!(indices(&table), [1, 2, 3, 4, 5]);
}

#[test]
fn the_same_module_is_held_once() {
    let shared = module("m");
    let mut table = ModuleTable::new();
    assert_eq!((table.add(&shared), table.add(&shared)), (Ok(1), Ok(1)));
    table.insert(1, &shared).unwrap();
    assert_eq!(Arc::strong_count(&shared), 2);
    let copy = table.clone();
    assert_eq!(Arc::strong_count(&shared), 3);
    drop((table, copy));
    assert_eq!(Arc::strong_count(&shared), 1);
}

#[test]
fn the_base_has_index_0_and_takes_no_room() {
    let base = module(Module::BASE);
    let mut table = ModuleTable::new();
    for n in 0..ModuleTable::MAX_MODULES {
        assert_eq!(table.add(&module(&format!("m{n}"))), Ok(n as i16 + 1));
    }
    assert_eq!(table.add(&base), Ok(0));
    assert_eq!(table.iter().count(), 257);
    assert_eq!(table.get(0).unwrap(), &base);
}

#[test]
fn a_table_has_room_for_256_modules() {
    let mut table = ModuleTable::new();
    for index in 1..=256 {
        table.insert(index, &module(&format!("m{index}"))).unwrap();
    }
    let extra = module("extra");
    let refused = ModuleError::TooManyModules { module: "extra".into(), max: 256 };
    assert_eq!(table.add(&extra), Err(refused.clone()));
    assert_eq!(table.insert(300, &extra), Err(refused.clone()));
    assert_eq!(table.call(&registry(&[&extra]), "extra", "first"), Err(refused));
    assert_eq!(Arc::strong_count(&extra), 1);
}

#[test]
fn indices_are_positive_and_unique() {
    let (first, second, base) = (module("first"), module("second"), module(Module::BASE));
    let mut table = ModuleTable::new();
    table.insert(2, &first).unwrap();
    for (index, module) in
        [(2, &second), (0, &second), (-1, &second), (i16::MIN, &second), (1, &base)]
    {
        let error = table.insert(index, module).unwrap_err();
        assert!(matches!(error, ModuleError::BadIndex { index: at, .. } if at == index), "{error}");
        assert_eq!(Arc::strong_count(module), 1, "{error}");
    }
    table.insert(i16::MAX, &second).unwrap();
    assert_eq!(indices(&table), [2, i16::MAX]);
}

#[test]
fn calls_name_the_function_by_id_and_index() {
    let (net, base) = (module("net"), module(Module::BASE));
    let modules = registry(&[&net, &base]);
    let mut table = ModuleTable::new();
    let call = |btf_id, module| Ok(Insn::Call(CallTarget::Kfunc { btf_id, module }));
    assert_eq!(table.call(&modules, "net", "second"), call(3, 1));
    assert_eq!(table.hook_call(&modules, "net", "first"), call(7, 1));
    assert_eq!(table.call(&modules, Module::BASE, "first"), call(7, 0));
    assert_eq!(table.function(1, 3).unwrap().name, "second");
    assert_eq!(table.hook_function(0, 7).unwrap().name, "first");
}

#[test]
fn what_is_not_there_is_named_and_nothing_is_held() {
    let net = module("net");
    let modules = registry(&[&net]);
    let before = Arc::strong_count(&net);
    let mut table = ModuleTable::new();
    let no_module = ModuleError::NoModule { module: "other".into() };
    assert_eq!(table.call(&modules, "other", "first"), Err(no_module));
    let no_function = ModuleError::NoFunction { module: "net".into(), function: "third".into() };
    assert_eq!(table.call(&modules, "net", "third"), Err(no_function.clone()));
    assert_eq!(table.hook_call(&modules, "net", "third"), Err(no_function));
    assert_eq!(table.function(1, 7), Err(ModuleError::NoIndex { index: 1 }));
    assert_eq!(table.function(0, 7), Err(ModuleError::NoIndex { index: 0 }));
    assert_eq!(Arc::strong_count(&net), before);
    table.add(&net).unwrap();
    let no_id = ModuleError::NoBtfId { module: "net".into(), btf_id: 8 };
    assert_eq!(table.function(1, 8), Err(no_id));
}

#[test]
fn special_functions_of_the_base_are_refused_in_hooks() {
    let throw = || [KfuncProto::new(9, "bpf_throw")];
    let base = Arc::new(Module::new(Module::BASE, throw()).unwrap());
    // A module's own function by that name is nothing special.
    let other = Arc::new(Module::new("other", throw()).unwrap());
    let modules = registry(&[&base, &other]);
    let before = Arc::strong_count(&base);
    let mut table = ModuleTable::new();
    let special = ModuleError::SpecialInHook { function: "bpf_throw".into() };
    assert_eq!(table.hook_call(&modules, Module::BASE, "bpf_throw"), Err(special.clone()));
    assert_eq!(Arc::strong_count(&base), before);
    table.call(&modules, Module::BASE, "bpf_throw").unwrap();
    assert_eq!(table.hook_function(0, 9), Err(special));
    table.hook_call(&modules, "other", "bpf_throw").unwrap();
}

#[test]
fn a_program_has_one_base() {
    let (first, second) = (module(Module::BASE), module(Module::BASE));
    let mut table = ModuleTable::new();
    table.add(&first).unwrap();
    assert!(matches!(table.add(&second), Err(ModuleError::BadIndex { index: 0, .. })));
    assert_eq!(Arc::strong_count(&second), 1);
}

#[test]
fn names_of_modules_are_unique() {
    let mut modules = registry(&[&module("m")]);
    let exists = ModuleError::ModuleExists { module: "m".into() };
    assert_eq!(modules.register(module("m")), Err(exists));
}

#[test]
fn prototypes_that_contradict_themselves_are_refused() {
    let (object, proto) = (ObjectType::new("object"), |name| KfuncProto::new(1, name));
    let bad = [
        KfuncProto::new(0, "f"),
        proto("f").args([KfuncArg::SCALAR; 6]),
        proto("f").args([KfuncArg::SIZE]),
        proto("f").args([KfuncArg::SCALAR, KfuncArg::SIZE]),
        proto("f").args([KfuncArg::BUFFER, KfuncArg::SCALAR]),
        proto("f").args([KfuncArg::BUFFER]),
        proto("f").args([KfuncArg::memory(0)]),
        proto("f").args([KfuncArg::SCALAR.or_null()]),
        proto("f").or_null(),
        proto("f").acquires(&object).returns(KfuncRet::Void),
        proto("f").args([KfuncArg::CONTEXT]).releases(),
    ];
    for function in bad {
        let error = Module::new("m", [function.clone()]).unwrap_err();
        assert!(matches!(error, ModuleError::BadPrototype { .. }), "{function:?}");
    }
    let twice = |first, second| Module::new("m", [first, second]).unwrap_err();
    assert!(twice(proto("f"), proto("g")).to_string().contains("BTF id"));
    assert!(twice(proto("f"), KfuncProto::new(2, "f")).to_string().contains("name"));
    let good = [
        proto("f").args([KfuncArg::BUFFER.or_null(), KfuncArg::SIZE]),
        KfuncProto::new(2, "g").acquires(&object).or_null(),
        KfuncProto::new(3, "h").args([KfuncArg::object(&object)]).releases(),
    ];
    assert_eq!(Module::new("m", good).unwrap().functions().len(), 3);
}

#[test]
fn types_of_objects_are_told_apart_by_identity() {
    let (one, other) = (ObjectType::new("session"), ObjectType::new("session"));
    assert_eq!(one, one.clone());
    assert_ne!(one, other);
}
